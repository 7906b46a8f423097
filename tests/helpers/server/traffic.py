"""What a grid knows of its nodes, without a grid."""

from dataclasses import dataclass, field

from server.transport.quota import Limits, Meter


@dataclass
class Nodes:
    """Connected nodes, and meters of all that have called."""

    connected: list[str] = field(default_factory=list)
    meters: dict[str, Meter] = field(default_factory=dict)

    def names(self):
        return self.connected

    def call(self, name):
        self.meters.setdefault(name, Meter(Limits())).call()


NOBODY = Nodes()
