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
        exact, exact_stderr: float32 [n_components], what `corrected` found instead; NaN where it did not look, and None
            where it never does.
    """

    values: np.ndarray
    stderr: np.ndarray
    exact: np.ndarray | None = None
    exact_stderr: np.ndarray | None = None
