"""Node apps that train nothing: one sends back what it got, the other replies with random factors."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from common.adapters.adapter import Adapter, Factors, Shapes
from common.huggingface.model_description import ModelDescription
from common.protocol.announcement import Announcement
from common.protocol.assignment import Update
from common.protocol.messages import RoundId, pack_update, unpack_assignment
from common.protocol.payload import Payload
from common.seeding import rng

ROWS = 10


def echo() -> ClientApp:
    """Return an app that replies to `train` with the values and the factors that it was sent."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        return Message(message.content, reply_to=message)

    return app


def random_factors(shapes: Shapes, ranks: Mapping[str, int]) -> ClientApp:
    """Return an app that announces modules of these (d, k), replies with Gaussian factors, and reports a loss of 1."""
    app = ClientApp()

    @app.query()
    def query(message: Message, context: Context) -> Message:
        name = str(context.node_config["node"])
        return _reply(message, Announcement(name, ranks[name], ROWS, described(shapes)).to_values())

    @app.train()
    def train(message: Message, context: Context) -> Message:
        asked = Payload.from_message(message)
        values, assignment = asked.values, unpack_assignment(asked.values, asked.blob, {})
        draws = rng(str(context.node_config["node"]), values["round"])
        update = Update(Adapter({name: _draw(f, draws) for name, f in assignment.start.items()}), ROWS, ROWS, 1.0)
        counts = {"examples": update.examples, "tokens": update.tokens, "loss": update.loss}
        return _reply(message, RoundId.from_values(values).to_values() | counts, pack_update(update, assignment.trains))

    @app.evaluate()
    def evaluate(message: Message, context: Context) -> Message:
        values: Any = message.content["values"]
        return _reply(message, RoundId.from_values(values).to_values() | {"loss": 1.0, "count": ROWS})

    return app


def described(shapes: Shapes) -> ModelDescription:
    """Return the model that these nodes announce."""
    return ModelDescription("bench", "classification", shapes)


def _draw(like: Factors, draws: np.random.Generator) -> Factors:
    return Factors(draws.standard_normal(like.a.shape, np.float32), draws.standard_normal(like.b.shape, np.float32))


def _reply(message: Message, values: Mapping[str, Any], blob: bytes = b"") -> Message:
    return Message(Payload(values, blob).to_records(), reply_to=message)
