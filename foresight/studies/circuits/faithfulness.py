"""Faithfulness: how much of a behaviour remains when everything outside a circuit is ablated, on the real model.

    f(C) = (m(C) - m(empty)) / (m(full) - m(empty))

with m(C) the metric, averaged over examples, when every component outside C is ablated (a ratio of means, not a mean of
ratios). Only components are ablated; embeddings, norms and biases stay as they are. Probes of contrast pairs take
corrupted prompts and the logit difference, those of plain text mean activations and the loss.

The Mechanistic Interpretability Benchmark (Mueller et al., arXiv 2504.13151) integrates f over nested circuits C_k, the
top floor(p n) of n components for p in 0.001, 0.002, 0.005, ... 1: CPR (integrated circuit performance ratio) is the
area under f, CMD (integrated circuit-model distance) the area under |1 - f|. Areas are trapezoids between the points
over p, from 0.001 to 1 and not rescaled: f = 1 throughout gives 0.999.

This module computes the same for components instead of edges, for models with at least 1,000 of them. Below that the
benchmark's smallest fractions are identical circuits or empty, so the curve has its points at whole sizes k instead:
all of 0..n up to 32 components, else about 32 that grow geometrically; p is k / n, and the area runs from 0 to 1.

The ratio means nothing without the behaviour, which requires the gap m(full) - m(empty) to exceed zero by more than
twice its standard error over examples (and by more than rounding). Resamples and halves in which the gap is not
positive are left out as undefined.

*Stability* (own definition) asks whether the circuit of step s still explains the model of step t: f_t(C_s) / f_t(C_t).
1 means that the old circuit does as well as the model's own; 0 or less, that it explains nothing. A run that keeps no
weights can answer for s <= t only. The ratio is NaN where the model does not show the behaviour, or its own circuit
explains nothing beyond noise (the interval of its faithfulness is not above zero), as a ratio to noise says nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import nn

from ...common.errors import DataError
from ...model.components import ComponentTable
from ...scoring.exact import ablation_effects
from ...scoring.probes import Probe
from ...scoring.scorer import scoring_mode
from .floors import UNDEFINED, Measured, measure

FRACTIONS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
POINTS = 32
ROUNDING = 1e-6
"""A gap (in logits or nats) up to this size may be pure rounding."""


class NoBehaviourError(DataError):
    """On this probe the model does not show the behaviour whose faithfulness is to be measured."""


def faithfulness_curve(
    model: nn.Module, table: ComponentTable, probe: Probe, ranking: Sequence[int] | np.ndarray
) -> list[tuple[str, int | None, float | None, Measured]]:
    """Measure nested circuits on the model: one ablated forward per size, all compared with one clean run.

    Args:
        ranking: all table positions, most important first: ``top_k(scores, len(table))``, which asks for what helps
            (the purpose of CPR), or that of |scores|, which asks for whatever matters (CMD).

    Returns:
        (measure, size, fraction, number): "faithfulness" of each circuit, with its components and its position on the
        axis of the areas; then "cpr", "cmd" and "gap", which is m(full) - m(empty) in units of the metric.

    Raises:
        NoBehaviourError: see the module docstring.
    """
    sizes, fractions = curve_points(len(table))
    drops = circuit_drops(model, table, probe, [ranking[:size] for size in sizes])
    check_behaviour(drops)
    points = zip(sizes.tolist(), fractions.tolist(), measure(faithfulness, drops), strict=True)
    cpr, cmd = measure(lambda means: np.stack(areas(fractions, faithfulness(means)), -1), drops)
    (gap,) = measure(lambda means: means[:, -1], drops)
    whole = [(name, None, None, found) for name, found in (("cpr", cpr), ("cmd", cmd), ("gap", gap))]
    return [*(("faithfulness", *point) for point in points), *whole]


def curve_points(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Sizes int64 [points] and fractions float64 [points] of the curve of n components, see the module docstring."""
    benchmark = np.array([int(p * n) for p in FRACTIONS])
    if benchmark[0] > 0 and (np.diff(benchmark) > 0).all():
        return benchmark, np.array(FRACTIONS)
    grown = np.arange(1, n + 1) if n <= POINTS else np.unique(np.geomspace(1, n, POINTS).round().astype(int))
    sizes = np.concatenate([[0], grown])
    return sizes, sizes / n


def areas(fractions: np.ndarray, curve: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(CPR, CMD), each [...], of faithfulness [..., points] at `fractions` [points]."""
    return np.trapezoid(curve, fractions, axis=-1), np.trapezoid(np.abs(1 - curve), fractions, axis=-1)


def stability(drops: np.ndarray, own: int) -> tuple[list[Measured], list[Measured]]:
    """Faithfulness of circuits on the model of one step, and its ratio to that of circuit `own`, the model's own; from
    the `circuit_drops` of the circuits on this model.
    """
    unknown = [UNDEFINED] * (drops.shape[1] - 1)
    try:
        check_behaviour(drops)
    except NoBehaviourError:
        return unknown, unknown

    def ratio(means: np.ndarray) -> np.ndarray:
        f = faithfulness(means)
        with np.errstate(divide="ignore", invalid="ignore"):
            return np.where(f[:, [own]] > 0, f / f[:, [own]], np.nan)

    faithful = measure(faithfulness, drops)
    return faithful, measure(ratio, drops) if faithful[own].low > 0 else unknown


def circuit_drops(
    model: nn.Module, table: ComponentTable, probe: Probe, circuits: Sequence[Sequence[int] | np.ndarray]
) -> np.ndarray:
    """How far the metric drops when all but a circuit (table positions; may be empty) is ablated; in the last column,
    when everything is: float64 [n_examples, n_circuits + 1], examples in the order of the batches.
    """
    ablation, metric = ("corrupted", "logit_difference") if probe.has_pairs else ("mean", "loss")
    everything = np.arange(len(table))
    outside = [np.setdiff1d(everything, circuit) for circuit in circuits]
    with scoring_mode(model):
        return ablation_effects(model, table, probe, [*outside, everything], ablation, metric)


def faithfulness(means: np.ndarray) -> np.ndarray:
    """f [..., n_circuits] from means [..., n_circuits + 1] of `circuit_drops`; NaN where the gap is not positive."""
    gap = means[..., -1:]
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(gap > 0, 1 - means[..., :-1] / gap, np.nan)


def check_behaviour(drops: np.ndarray) -> None:
    """Refuse `circuit_drops` [n_examples, n_circuits + 1] without a clearly positive gap. Raises NoBehaviourError."""
    gap = drops[:, -1]
    error = float(gap.std(ddof=1) / np.sqrt(len(gap))) if len(gap) > 1 else 0.0
    if not gap.mean() > max(2 * error, ROUNDING):
        raise NoBehaviourError(
            f"the metric of the full model is {gap.mean():.3g} above that of the model with everything ablated "
            f"(standard error {error:.2g} over {len(gap)} examples); expected clearly more than 0: the model does not "
            "show this behaviour, so no circuit can be faithful to it. Measure a later step, another ablation, or a "
            "larger probe"
        )
