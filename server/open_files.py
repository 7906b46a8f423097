"""How many connections and files this process may have open."""

import resource


def allow_many() -> int:
    """The most that the system lets this process have open at once, which it may have from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:  # where macOS says so, it refuses that as a limit
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard
