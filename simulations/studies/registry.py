"""The studies by name."""

from collections.abc import Mapping

from simulations.studies.claims import amplification, latency, memory, redundancy, skew, subspace
from simulations.studies.claims.accuracy import baselines, budget, low_data, parameters, placement, rank
from simulations.studies.engine.study import Study

STUDIES: Mapping[str, Study] = {
    "amplification": amplification.STUDY,
    "baselines": baselines.STUDY,
    "budget": budget.STUDY,
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
