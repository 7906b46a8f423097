"""The last global update of a run, with the server's signature over it, as nodes are sent it."""

from dataclasses import dataclass
from typing import Self

from common.adapters.adapter import Adapter
from common.adapters.codec import encode_adapter
from common.identity.credentials import ServerCredentials
from common.identity.documents.signatures import Ending, sign
from common.protocol.messages import ENDED, FROZEN, RoundId
from common.protocol.payload import Payload


@dataclass(frozen=True)
class LastUpdate:
    """What a run ended with.

    Args:
        round_id: of the last round; its parent is the hash of the buffer.
        buffer: the factors.
        signature: the server's over the run's `Ending`, in hexadecimal.
    """

    round_id: RoundId
    buffer: bytes
    signature: str

    @classmethod
    def sign(cls, round_id: RoundId, update: Adapter, credentials: ServerCredentials) -> Self:
        """Sign that the run of this round ended with this update."""
        ending = Ending(
            project=credentials.project, run=round_id.run, round=round_id.round, adapter_hash=round_id.parent
        )
        return cls(round_id, encode_adapter(update), sign(ending, credentials.receipt_key).hex())

    def to_nodes_of_the_run(self) -> Payload:
        """Return it for nodes that are connected to this run, which may hold part of the buffer."""
        return Payload(self._values, parts={FROZEN: self.buffer})

    def to_nodes_of_another(self) -> Payload:
        """Return it for nodes that are connected to a later run: what they hold of that one stays as it is."""
        return Payload(self._values, self.buffer)

    @property
    def _values(self) -> dict[str, object]:
        return self.round_id.to_values() | {ENDED: self.signature}
