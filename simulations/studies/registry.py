"""The studies by name."""

from collections.abc import Mapping

from simulations.studies.claims import (
    amplification,
    baselines,
    latency,
    low_data,
    memory,
    parameters,
    placement,
    rank,
    redundancy,
    skew,
    subspace,
)
from simulations.studies.engine.study import Study

STUDIES: Mapping[str, Study] = {
    "amplification": amplification.STUDY,
    "baselines": baselines.STUDY,
    "latency": latency.STUDY,
    "low-data": low_data.STUDY,
    "memory": memory.STUDY,
    "parameters": parameters.STUDY,
    "placement": placement.STUDY,
    "rank": rank.STUDY,
    "redundancy": redundancy.STUDY,
    "skew": skew.STUDY,
    "subspace": subspace.STUDY,
}
