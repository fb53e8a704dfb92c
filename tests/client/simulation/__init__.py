"""The whole client in simulated time, on a simulated network, under faults. `python -m tests.client.simulation 17`."""

from tests.client.simulation.cuts import CUTS, Cut
from tests.client.simulation.faults import FAULTS
from tests.client.simulation.run import (
    LIVING,
    SEEDS_FOR_CUTS,
    SEEDS_FOR_PAIRS,
    SEEDS_FOR_PLACES,
    STATES,
    Result,
    simulate,
)

__all__ = [
    "CUTS",
    "FAULTS",
    "LIVING",
    "SEEDS_FOR_CUTS",
    "SEEDS_FOR_PAIRS",
    "SEEDS_FOR_PLACES",
    "STATES",
    "Cut",
    "Result",
    "simulate",
]
