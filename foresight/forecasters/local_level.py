"""Local level: a score is a level that wanders plus noise; the share of each is learned."""

from __future__ import annotations

import numpy as np

from ..common.errors import CheckpointError
from ..trajectory.series import Series
from . import register
from .forecaster import Forecaster, saved_array
from .relative import LogScores, sample

SHARES = (0.0, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Candidates for the share of the level's variance per cadence in the total variance; 0 is the mean, 1 persistence."""
MAX_ROWS = 5_000
"""Components on which the frequencies of the shares are estimated."""
EM_ROUNDS = 50
LEAST_VARIANCE = 1e-10
"""Of relative log scores: smaller ones are rounding."""


@register("local_level")
class LocalLevel(Forecaster):
    """The local-level state-space model, by the Kalman filter for all components at once, on relative log scores.

    y_t = level_t + noise, level_t = level_(t-1) + step (Durbin and Koopman 2012, chapter 2). The filter's gains depend
    on the gaps, on the share of the step's variance and on standard errors where there are any, not on the scores: one
    pass over the snapshots serves all components and shares. The overall variance is concentrated out of each
    component's likelihood, so that only the ratios of standard errors count: a snapshot counts for less where its
    standard error, relative to the level of its step, is larger than the component has at other snapshots.

    One short series cannot tell its share. So the frequencies of the shares among the components are estimated by
    maximum likelihood (Kiefer and Wolfowitz 1956; expectation maximisation), and a component's forecast is the mean of
    its levels under each share, weighted by the posterior probabilities of the shares. The frequencies of past runs
    (the mean over runs) count as much as those of this run's components, so that a few snapshots suffice (own
    definition). The horizon does not matter.

    Attributes:
        frequency_: float64 [len(SHARES)], sums to 1.
        past_frequency_: the same of past runs; after `pretrain`.
    """

    def _pretrain(self, histories: list[Series]) -> None:
        found = [LogScores(series) for series in histories]
        learned = [_frequency(_filtered(logs)[1], None) for logs in found if len(logs.values) >= 3]
        # If all past runs are too short to learn from, every share is as likely as any other.
        self.past_frequency_ = np.mean(learned, 0) if learned else np.full(len(SHARES), 1 / len(SHARES))

    def _fit(self, series: Series) -> None:
        logs = LogScores(series)
        past = getattr(self, "past_frequency_", None)
        least = 3 if past is None else 2
        if len(logs.values) < least:
            self.fallback_ = f"persistence: {len(logs.values)} snapshots with scores, {least} are needed"
            return
        levels, likelihood = _filtered(logs)
        self.frequency_ = _frequency(likelihood, past)
        weights = _posterior(likelihood, self.frequency_)
        level = sum(weight * found for weight, found in zip(weights, levels, strict=True))
        self.smoothed_ = logs.scores(np.asarray(level))

    def _predict(self, horizon: int) -> np.ndarray:
        return self.smoothed_

    def _pretrained_arrays(self) -> dict[str, np.ndarray]:
        return {"frequency": self.past_frequency_} if hasattr(self, "past_frequency_") else {}

    def _load_pretrained(self, arrays: dict[str, np.ndarray]) -> None:
        found = saved_array(arrays, "frequency", np.float64, (len(SHARES),), 0, 1)
        if abs(found.sum() - 1) > 1e-6:
            raise CheckpointError(f"forecaster state: 'frequency' sums to {found.sum():g}; expected 1")
        self.past_frequency_ = found


def _filtered(logs: LogScores) -> tuple[np.ndarray, np.ndarray]:
    """Levels [shares, n] after the last snapshot, and likelihoods [shares, n] up to a factor."""
    levels, likelihood = _filter(logs.values, np.diff(logs.time), logs.noise)
    return levels, np.exp(likelihood - likelihood.max(0))


def _frequency(likelihood: np.ndarray, past: np.ndarray | None) -> np.ndarray:
    """Frequencies [shares] of the shares among components; `past`, those of past runs, are half of the evidence."""
    few = likelihood[:, sample(likelihood.shape[1], MAX_ROWS)]
    frequency = np.full(len(SHARES), 1 / len(SHARES))
    for _ in range(EM_ROUNDS):
        mine = _posterior(few, frequency).mean(1)
        frequency = mine if past is None else (mine + past) / 2
    return frequency


def _filter(logs: np.ndarray, gaps: np.ndarray, noises: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Filtered levels [shares, n] after the last of `logs` [t, n] and log likelihoods [shares, n], up to a constant.

    Args:
        gaps: [t - 1] in cadences; noises: relative variances of the noise, [t, n] or [t, 1].
    """
    share = np.array(SHARES)[:, None]
    level = np.repeat(logs[:1], len(share), 0)
    variance = (1 - share) * noises[0]  # of the state after the first snapshot, given a diffuse start
    squares, log_scale = np.zeros_like(level), np.zeros_like(variance)
    for now, gap, noise in zip(logs[1:], gaps, noises[1:], strict=True):
        variance += share * gap
        scale = variance + (1 - share) * noise
        error = now - level
        gain = variance / scale
        level += gain.astype(np.float32) * error
        error *= error
        error *= (1 / scale).astype(np.float32)
        squares += error
        log_scale += np.log(scale)
        variance *= 1 - gain
    seen = len(gaps)
    return level, -(seen * np.log(np.maximum(squares / seen, LEAST_VARIANCE)) + log_scale) / 2


def _posterior(likelihood: np.ndarray, frequency: np.ndarray) -> np.ndarray:
    """Probabilities [shares, n] of the shares, given their frequencies [shares]."""
    joint = likelihood * frequency[:, None]
    return joint / joint.sum(0)
