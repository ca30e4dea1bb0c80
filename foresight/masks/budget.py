"""The budget: a share of ALL parameters of the model, as a number of vectors, constant or changing over the run."""

from __future__ import annotations

import math
from typing import Any

from ..common.errors import BudgetError
from ..common.plugins import part
from ..model.numbering import Numbering


def budget_vectors(table: Numbering, budget: float) -> int:
    """Vectors (or weights) that a budget buys: floor(budget x all parameters of the model / length of a vector).

    Raises:
        BudgetError: budget outside (0, 1], too small for the smallest component, or more than the candidates have.
    """
    if not 0 < budget <= 1:
        raise BudgetError(f"budget is {budget}; expected a share of all model parameters in (0, 1], for example 0.05")
    n = math.floor(budget * table.model_parameters / table.d_model + 1e-9)  # .29 x 100 is 28.999... in floats
    smallest = table.smallest
    if n < smallest:
        need = smallest * table.d_model / table.model_parameters
        raise BudgetError(
            f"budget {budget} buys {n} {table.unit} of length {table.d_model}, but the smallest component has "
            f"{smallest}; raise the budget to at least {need:.4g} or lower mlp_block"
        )
    if table.restricted and n > table.available:
        most = table.available * table.d_model / table.model_parameters
        raise BudgetError(
            f"budget {budget} buys {n} {table.unit}, but the candidates have {table.available}; lower the budget to "
            f"{math.floor(most * 1e6) / 1e6:g}, or allow more in `candidates`"
        )
    return min(n, table.n_vectors)


def budget_over_time(value: Any) -> Any:
    """The `BudgetSchedule` that the setting `budget_schedule` describes; None for a constant budget.

    Raises:
        UnknownNameError, ConfigError: as `BudgetSchedule.of`.
    """
    schedule = part("masks.budget_schedule.BudgetSchedule").of(value) if value else None
    return None if schedule is None or schedule.constant else schedule
