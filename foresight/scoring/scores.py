"""What a scorer gives and a trajectory keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Scores:
    """Scores of all components at one step, in table order.

    Attributes:
        values: float32 [n_components], finite.
        stderr: float32 [n_components], standard error of `values` over examples or minibatches; NaN for a single one.
    """

    values: np.ndarray
    stderr: np.ndarray
