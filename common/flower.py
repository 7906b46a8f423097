"""The two private names of Flower 1.41 that a grid of ours needs, and nothing else; a contract test watches them."""

from flwr.app import Message, Metadata, RecordDict
from flwr.supercore.task_identity import TaskIdentity


def identify(run_id: int = 1, node_id: int = 1) -> None:
    """Give this process the identity without which Flower creates no message."""
    TaskIdentity.run_id, TaskIdentity.node_id, TaskIdentity.task_id = run_id, node_id, 1


def with_id(message: Message, message_id: str) -> Message:
    """The message under an id of its own, its records in a new RecordDict, as a transport would deliver it."""
    m = message.metadata
    metadata = Metadata(
        m.run_id, message_id, m.src_node_id, m.dst_node_id, "", m.group_id, m.created_at, m.ttl, m.message_type
    )
    return Message(metadata=metadata, content=RecordDict(dict(message.content)))  # type: ignore[call-overload,no-any-return]
