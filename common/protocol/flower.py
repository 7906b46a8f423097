"""Compatibility with Flower 1.41: two private names, which a contract test watches, and a grid's unused methods."""

from typing import Any

from flwr.app import Message, Metadata, RecordDict
from flwr.serverapp import Grid
from flwr.supercore.task_identity import TaskIdentity


class GridOfOneRun(Grid):
    """A grid without a SuperLink; subclasses send the messages."""

    def create_message(
        self, content: RecordDict, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Message:
        """Make a message to a node."""
        return Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def set_run(self, run: Any) -> None:
        """Do nothing: this grid has one run."""

    @property
    def run(self) -> Any:
        """The run of a SuperLink, of which there is none here.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError("no SuperLink run without a SuperLink")


def identify(run_id: int = 1, node_id: int = 1) -> None:
    """Give this process the identity without which Flower creates no message."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, 1


def give_id(message: Message, message_id: str) -> Message:
    """Return the message under this id, its records in a new RecordDict, as a transport would deliver it."""
    m = message.metadata
    metadata = Metadata(
        m.run_id, message_id, m.src_node_id, m.dst_node_id, "", m.group_id, m.created_at, m.ttl, m.message_type
    )
    return Message(metadata=metadata, content=RecordDict(dict(message.content)))  # type: ignore[call-overload,no-any-return]
