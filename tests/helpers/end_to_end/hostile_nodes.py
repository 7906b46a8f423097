"""Nodes that misbehave in their replies of training, and otherwise are as those of `fedlora client`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any

import grpc
import numpy as np
from flwr.app import Context, Message, RecordDict

from client.app import app
from client.node import read_node
from common.adapters.adapter import Adapter, Factors
from common.adapters.codec import decode_adapter, encode_adapter
from common.identity.credentials import NodeCredentials, load_node_credentials
from common.identity.documents import signatures
from common.protocol.channel import REPLY, SERVICE
from common.protocol.frames import encode_message
from common.protocol.payload import Payload
from tests.helpers.end_to_end.invalid_replies import BLOB, CONTENT, SIGNED, Values, flipped
from tests.helpers.end_to_end.transport import blob_of, content, until, values_of

_ONE_AT_A_TIME = Lock()


def _trains(message: Message) -> bool:
    return message.metadata.message_type == "train"


def _is_update(values: Mapping[str, Any]) -> bool:
    return "examples" in values


class Node:
    """Behaves as one of `fedlora client` does."""

    def __init__(self, file: Path, go: Path) -> None:
        self.settings, self._go = read_node(file), go
        self.rank = self.settings.rank
        self.credentials = load_node_credentials(Path(self.settings.keys), self.settings.name)
        self.context = Context(1, 2, {"node": str(file)}, RecordDict(), {})

    def answer(self, message: Message, context: Context) -> Message:
        if message.metadata.message_type == "query":
            until(self._go.exists, seconds=120)
        with _ONE_AT_A_TIME:
            return app(message, context)

    def sign(self, reply: Payload) -> Values:
        """Return the values that are added to a reply."""
        return self.sign_as(self.credentials, reply)

    def on_notice(self, values: Values, blob: bytes) -> None:
        """Handle a notice."""

    def on_connect(self) -> None:
        """Begin a connection."""

    def on_request(self, kind: str, values: Values) -> None:
        """Obey a request."""

    def sign_as(self, who: NodeCredentials, reply: Payload) -> Values:
        keys = who.project, who.name, who.roster.version, who.signing_key
        return signatures.sign_reply(reply.values, reply.blob_hash, *keys)


class Spoiler(Node):
    """Signs an update that is spoilt."""

    def answer(self, message: Message, context: Context) -> Message:
        reply = super().answer(message, context)
        if not _trains(message):
            return reply
        values, blob = CONTENT[self.settings.name].spoil(values_of(reply), blob_of(reply))
        return Message(content(blob, **values), reply_to=message)


class Inflater(Node):
    """Sends in round 1 an update whose B is a million times as large."""

    def answer(self, message: Message, context: Context) -> Message:
        reply = super().answer(message, context)
        if not _trains(message) or values_of(reply)["round"] != 1:
            return reply
        large = {name: Factors(f.a, np.float32(1e6) * f.b) for name, f in decode_adapter(blob_of(reply)).items()}
        return Message(content(encode_adapter(Adapter(large)), **values_of(reply)), reply_to=message)


class Flipper(Node):
    """Flips a bit of an update after it was signed."""

    def sign(self, reply: Payload) -> Values:
        field = self.settings.name.removeprefix("flipped-")
        if not _is_update(reply.values):
            return super().sign(reply)
        if field == BLOB:  # The same to the server: what was signed and what is sent differ by a bit.
            return super().sign(replace(reply, blob=flipped(reply.blob)))
        whole = {**reply.values, **super().sign(reply)}
        return whole | {field: flipped(whole[field])}


class Forger(Node):
    """Signs its updates with its own key for another project, or in the name of another node."""

    def sign(self, reply: Payload) -> Values:
        claims = {"for-another-project": {"project": "other"}, "as-another-node": {"name": "client-00"}}
        who = replace(self.credentials, **claims[self.settings.name]) if _is_update(reply.values) else self.credentials
        return self.sign_as(who, reply)


class Replayer(Node):
    """Sends in place of an update what it said when it was asked who it is, with the nonce and signature of then."""

    said: Values

    def answer(self, message: Message, context: Context) -> Message:
        if _trains(message):
            return Message(content(**self.said), reply_to=message)
        return super().answer(message, context)

    def sign(self, reply: Payload) -> Values:
        signed = {**reply.values, **super().sign(reply)}
        if "fingerprint" not in reply.values:
            return signed
        self.said = getattr(self, "said", signed)
        return self.said


class Braggart(Node):
    """Connects with the rank that the roster allows it, and then says that it trains a larger one."""

    def __init__(self, file: Path, go: Path) -> None:
        super().__init__(file, go)
        self.rank = self.credentials.roster.member(self.settings.name).max_rank


class Impostor(Node):
    """Has no update for itself, and one for a message to another node."""

    def answer(self, message: Message, context: Context) -> Message:
        if _trains(message):
            raise RuntimeError("its update went elsewhere")
        return super().answer(message, context)

    def answer_for_another(self, message: Message) -> None:
        """Reply to it with an update and a signature of its own; prints what the server says."""
        reply = super().answer(message, self.context)
        values, blob = values_of(reply), blob_of(reply)
        frames = encode_message(Message(content(blob, **values, **self.sign(Payload(values, blob))), reply_to=message))
        own = self.credentials
        tls = grpc.ssl_channel_credentials(own.ca_pem, own.key_pem, own.certificate_pem)
        with grpc.secure_channel(self.settings.server, tls, [("grpc.enable_http_proxy", 0)]) as channel:
            try:
                channel.stream_unary(f"/{SERVICE}/{REPLY}")(frames, timeout=30)
                print(f"{own.name}: accepted")
            except grpc.RpcError as error:
                print(f"{own.name}: {error.details()}")


class Victim(Node):
    """Behaves; an impostor sees what it is asked, and is the first to answer."""

    impostor: Impostor | None = None

    def answer(self, message: Message, context: Context) -> Message:
        if self.impostor and _trains(message):
            self.impostor.answer_for_another(message)
        return super().answer(message, context)


KINDS: dict[str, type[Node]] = {
    **dict.fromkeys(CONTENT, Spoiler),
    **dict.fromkeys([f"flipped-{field}" for field in SIGNED], Flipper),
    **dict.fromkeys(["for-another-project", "as-another-node"], Forger),
    "inflated": Inflater,
    "replay": Replayer,
    "braggart": Braggart,
    "impostor": Impostor,
    "victim": Victim,
}
"""By the name of the node."""
