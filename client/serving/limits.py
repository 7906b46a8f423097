"""What one server takes at most: a request beyond it is refused, and costs no other request its place."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Limits:
    """Bounds of a server.

    Args:
        body: bytes of a request.
        body_seconds: time in which a request must have arrived.
        prompts: texts in one request.
        waiting: texts that wait for a place in the batch, of all requests.
        rows: texts that are computed together.
        tokens: of the batch, each row counted at the longest one's length; bounds keys and values in memory.
        stops: stop strings of a request.
        connections: open ones.
    """

    body: int = 1 << 20
    body_seconds: float = 30.0
    prompts: int = 64
    waiting: int = 128
    rows: int = 16
    tokens: int = 1 << 16
    stops: int = 4
    connections: int = 256
