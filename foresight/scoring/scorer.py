"""What every scorer is, its base class, and the mode that it puts a model in."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from torch import nn

from ..common.errors import DataError, NonFiniteError
from ..model.placement import Placement
from .scores import Scores

if TYPE_CHECKING:
    from ..model.components import ComponentTable
    from .probes import Batch, Probe

BENEFIT, DAMAGE = "benefit", "damage"
"""What virtual moves measure, by name in a trajectory (see `virtual_moves`)."""


class Scorer(ABC):
    """Base of all scorers. A subclass stores its settings in `__init__` and computes scores in `_samples`.

    Attributes:
        name: the scorer's name in `SCORERS` and in messages.
        needs_pairs: whether its settings require a `ContrastProbe`; otherwise any probe will do.
        divisible: whether batches are scored independently of one another, so that processes can share them.
        per_example: whether a row of samples is an example's, and the score their mean.
        along: whether a run takes its samples along with the steps that train.
    """

    name: ClassVar[str]
    needs_pairs: bool = False
    divisible: bool = True
    per_example: ClassVar[bool] = False
    along: ClassVar[bool] = False
    damage_seconds: float = 0.0
    """Wall time spent on measuring damage so far, which only virtual moves do."""

    def passes(self, n_components: int) -> tuple[float, float]:
        """Forward and backward passes over an example that its scores take; backward to the embeddings, without weight
        gradients.
        """
        return 1.0, 1.0

    def cost(self, batches: int, measurements: int) -> dict[str, float]:
        """What measurements of so many batches in all cost, to be logged; empty if their seconds say it all."""
        return {}

    def score(
        self, model: nn.Module, table: ComponentTable, probe: Probe | None, placement: Placement | None = None
    ) -> Scores:
        """Score every component of `table` on `probe`, which may be None for scorers that read no data.

        With several processes (`placement`) each of them must call this: they share the probe's batches, and each gets
        the scores that a single process would.

        Raises:
            DataError: no probe, or one without contrast pairs where they are needed.
            NonFiniteError: a score is NaN or infinite; the message names the component and the scorer.
        """
        return self.combine(self.samples(model, table, probe, placement), table)

    def measure(
        self, model: nn.Module, table: ComponentTable, probe: Probe | None, placement: Placement | None = None
    ) -> dict[str, Scores]:
        """What a snapshot records, by name: the scorer's own scores, and whatever else it measures in the same pass."""
        return {self.name: self.score(model, table, probe, placement)}

    def samples(
        self, model: nn.Module, table: ComponentTable, probe: Probe | None, placement: Placement | None = None
    ) -> np.ndarray:
        """The samples that scores average: float64 [m, n_components], one row per example or minibatch, in probe order.

        Raises:
            DataError: as `score`.
        """
        self._check_probe(probe)
        place = placement or Placement()
        with scoring_mode(model):
            rows = self._shared(model, table, self._divided(probe), place)
        place.settle()
        return rows

    def _shared(self, model: nn.Module, table: ComponentTable, probe: Any, place: Placement) -> np.ndarray:
        """Samples of the whole probe; processes take its batches in turn and exchange the rows.

        Every process runs the same number of passes, because sharded weights are gathered by all processes together.
        """
        if place.world == 1 or not self.divisible:
            return self._samples(model, table, probe)
        mine = [self._samples(model, table, probe.only(batch)) for batch, _ in turns(probe, place)]
        found = place.gather(mine)
        return np.concatenate([found[i % place.world][i // place.world] for i in range(len(probe.batches))])

    def combine(self, samples: np.ndarray, table: ComponentTable) -> Scores:
        """Scores from samples [m, n_components]. Raises NonFiniteError."""
        values, stderr = self._combine(samples)
        bad = np.flatnonzero(~np.isfinite(values))
        if len(bad):
            raise NonFiniteError(
                f"{self.name} gave {values[bad[0]]} for {table.names(bad[:1])[0]} ({len(bad)} of {len(table)} "
                "components are not finite). The model's loss or activations have probably diverged: lower the "
                "learning rate and resume from the last checkpoint, or look for infinite values in the data"
            )
        return Scores(values.astype(np.float32), stderr.astype(np.float32))

    def _divided(self, probe: Any) -> Any:
        """The probe in the batches that it is scored in; the same on every process, which then takes its share."""
        return probe

    def _check_probe(self, probe: Probe | None) -> None:
        if probe is None:
            raise DataError(f"{self.name} needs a probe to score on; got none")
        if self.needs_pairs and not probe.has_pairs:
            raise DataError(
                f"{self.name} with these settings needs contrast pairs, but the probe is plain text; give a dataset "
                "with the columns clean, corrupted, answer, wrong_answer, or use the scorer 'gradient_activation'"
            )

    @abstractmethod
    def _samples(self, model: nn.Module, table: ComponentTable, probe: Any) -> np.ndarray:
        """Return float64 [m, n_components]; the model is in scoring mode."""

    def _combine(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return mean_and_stderr(samples)


@contextmanager
def scoring_mode(model: nn.Module) -> Iterator[None]:
    """Put the model in eval mode, and restore each module's flag afterwards.

    A checkpointed layer recomputes only while its own flag is set. The flag stays set where checkpointing is
    non-reentrant, so that scoring needs no more memory than training. Reentrant checkpointing hides activations from
    autograd and is therefore switched off.
    """
    before = {module: module.training for module in model.modules()}
    model.eval()
    for module in before:
        if getattr(module, "gradient_checkpointing", False):
            settings = getattr(getattr(module, "_gradient_checkpointing_func", None), "keywords", {})
            module.training = settings.get("use_reentrant") is False
    try:
        yield
    finally:
        for module, training in before.items():
            module.training = training


def turns(probe: Probe, place: Placement) -> Iterator[tuple[Batch, bool]]:
    """Yield this process's batches, each with whether it counts.

    All processes take equally many, so the last batch may come more than once and then does not count.
    """
    last = len(probe.batches) - 1
    for turn in range(0, last + 1, place.world):
        i = turn + place.rank
        yield probe.batches[min(i, last)], i <= last


def mean_and_stderr(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and standard error (std / sqrt(m)) of samples [m, n], both [n]; the error is NaN if m is 1."""
    m = len(samples)
    if m == 1:
        return samples[0], np.full(samples.shape[1], np.nan)
    return samples.mean(0), samples.std(0, ddof=1) / np.sqrt(m)
