"""What watching single weights costs a run, in numbers to be logged."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..bank.base import AnyBank
    from ..policies.single_weights.weight_foresight import WeightForesight

BYTES_A_WEIGHT = 4 + 4 + 8 + 4 + 8 + 8
"""Of a weight in the bank, while the watch lasts: value, gradient, two moments, age, and its id on CPU and device."""


def watch_cost(policy: WeightForesight, bank: AnyBank, n_weights: int, steps: int) -> dict[str, float]:
    """Steps of the watch, its seconds besides training, and bytes beyond the budget: of the statistics and the bank.

    Args:
        bank: as it is when the watch ends; n_weights: the budget; steps: optimizer steps of the watch.
    """
    return {
        "foresight/watch_steps": steps,
        "foresight/movement_seconds": policy.seconds,
        "foresight/movement_bytes": policy.nbytes,
        "foresight/watch_bank_bytes": BYTES_A_WEIGHT * (bank.n_vectors - n_weights),
    }
