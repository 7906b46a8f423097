"""A budget of trained parameters: a share of the base model's, a number, or the bytes of an adapter."""

from fractions import Fraction

from common.errors import ConfigError
from common.settings.types import BUDGET

FLOAT32 = 4
"""Bytes of a number in an adapter's checkpoint."""
_BYTES = {"B": 1, "kB": 10**3, "MB": 10**6, "GB": 10**9, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


def budget_parameters(budget: str | int, base_parameters: int) -> int:
    """Return the number of parameters that a budget such as `0.1%`, `50000` or `300 kB` allows.

    Args:
        budget: as in [lora] budget.
        base_parameters: of the base model, of which a percentage is taken.

    Raises:
        ConfigError: it is none of these.
    """
    parts = BUDGET.fullmatch(str(budget))
    if parts is None:
        raise ConfigError(
            f"budget = {budget!r} is no budget; write a share of the base model's parameters such as 0.1%, a number of "
            "parameters such as 50000, or the bytes of an adapter such as 300 kB"
        )
    number, unit = Fraction(parts["number"]), parts["unit"]  # 0.7% of 1000 is 7, and in binary digits it is below.
    if unit == "%":
        return int(number / 100 * base_parameters)
    return int(number * _BYTES[unit] / FLOAT32) if unit else int(number)


def is_share(budget: str | int) -> bool:
    """Return whether a budget is a percentage of the base model's parameters."""
    return str(budget).endswith("%")
