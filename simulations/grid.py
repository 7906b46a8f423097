"""A Flower grid in this process: the same apps as in a deployment, many nodes, one shared base model.

A few worker threads answer the messages. Each has its own module objects over the same frozen tensors, so memory does
not grow with the number of nodes.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Self, TypeVar
from uuid import uuid4

import torch
from flwr.app import Context, Error, Message, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import ServerApp

import client.app
from common.protocol.flower import GridOfOneRun, give_id, identify
from server.rounds.quorum import TooFewUpdatesError

ERROR_CODE = 2
"""Flower's code for a client app that raised an exception."""

log = logging.getLogger(__name__)
Item = TypeVar("Item")
Result = TypeVar("Result")


class InProcessGrid(GridOfOneRun):
    """Nodes in threads of this process; a node is the path of its file."""

    def __init__(self, app: ClientApp, nodes: Sequence[Path], workers: int, threads: int) -> None:
        """Start `workers` workers, each with `threads` threads for PyTorch."""
        identify()
        self._client = app
        self._contexts = {i: Context(1, i, {"node": str(file)}, RecordDict(), {}) for i, file in enumerate(nodes, 2)}
        # PyTorch keeps the number of threads per computing thread, so each worker must set it for itself.
        self._workers = ThreadPoolExecutor(workers, "node", torch.set_num_threads, (threads,))
        self._replies: dict[str, Future[Message]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._workers.shutdown(wait=failure[0] is None, cancel_futures=True)

    def serve(self, app: ServerApp, run: Path) -> None:
        """Run the server's app on the run in this folder, to its end."""
        app(self, Context(1, 1, {}, RecordDict(), {"run": str(run)}))

    def map(self, work: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        """Return the results, in order, of work that the workers do in addition to answering messages."""
        return list(self._workers.map(work, items))

    def get_node_ids(self) -> Iterable[int]:
        """Return the nodes' numbers."""
        return list(self._contexts)

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        """Queue the messages for the workers."""
        return [self._push(give_id(message, uuid4().hex)) for message in messages]

    def _push(self, message: Message) -> str:
        context = self._contexts[message.metadata.dst_node_id]
        self._replies[message.metadata.message_id] = self._workers.submit(self._answer, message, context)
        return message.metadata.message_id

    def _answer(self, message: Message, context: Context) -> Message:
        """Return the app's reply; if the app raises, only this node fails, as in Flower's other grids."""
        try:
            return self._client(message, context)
        except Exception as error:
            log.error("node %s failed: %s", context.node_config["node"], error, exc_info=error)
            return Message(Error(ERROR_CODE, "failed"), reply_to=message)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        """Return the replies that are ready, each once."""
        ready = [i for i in message_ids if i in self._replies and self._replies[i].done()]
        return [self._replies.pop(i).result() for i in ready]

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> Iterable[Message]:
        """Push, wait for all or until the timeout in seconds, pull."""
        ids = list(self.push_messages(messages))
        wait([self._replies[i] for i in ids], timeout)
        return self.pull_messages(ids)


@contextmanager
def naming_fault() -> Iterator[None]:
    """Add to the error of a round with too few updates what the node that declined last has logged.

    The server knows only a word of each node; here the user owns all of them.

    Raises:
        TooFewUpdatesError: the error, with that text.
    """
    said: list[str] = []
    handler = logging.Handler(logging.ERROR)
    handler.emit = lambda record: said.append(record.getMessage())  # type: ignore[method-assign]
    client.app.log.addHandler(handler)
    try:
        yield
    except TooFewUpdatesError as error:
        raise (TooFewUpdatesError(f"{error}; the last of them {said[-1]}") if said else error) from None
    finally:
        client.app.log.removeHandler(handler)
