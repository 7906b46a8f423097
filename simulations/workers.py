"""What processes of a pool have in common."""

import multiprocessing
import os
import threading


def end_with_parent() -> None:
    """End this process when the one that started it has ended, however: a pool's would wait for work forever."""
    threading.Thread(target=_wait, daemon=True).start()


def _wait() -> None:
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os._exit(1)
