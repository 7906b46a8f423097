"""A grid's knowledge of its nodes, without a grid."""

from dataclasses import dataclass, field

from server.transport.quota import NodeQuota, TrafficMeter


@dataclass
class Nodes:
    """Connected nodes, and meters of all that have called."""

    connected: list[str] = field(default_factory=list)
    meters: dict[str, TrafficMeter] = field(default_factory=dict)

    def names(self):
        return self.connected

    def call(self, name):
        self.meters.setdefault(name, TrafficMeter(NodeQuota())).call()


NOBODY = Nodes()
