"""How many connections and files this process may have open."""

import resource

_MOST = 10**6


def allow_many() -> int:
    """The most that the system lets this process have open at once, which it may have from now on."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:  # where macOS says so, it refuses that as a limit
        return soft
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def for_connections() -> int:
    """How many of them may be connections: strangers must not use up those that the journal needs."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST if soft == resource.RLIM_INFINITY else min(soft * 3 // 4, _MOST)
