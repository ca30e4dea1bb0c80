"""What every scorer is: its result, its base class, and the registry of names."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from torch import nn

from ..common.errors import ConfigError, DataError, NonFiniteError, UnknownNameError, did_you_mean
from ..model.placement import Placement
from .taps import scoring_mode

if TYPE_CHECKING:
    from ..model.components import ComponentTable
    from .probes import Batch, Probe


@dataclass(frozen=True)
class Scores:
    """Scores of all components at one step, in table order.

    Attributes:
        values: float32 [n_components], finite.
        stderr: float32 [n_components]; standard error of `values` over examples or minibatches, NaN if there was one.
    """

    values: np.ndarray
    stderr: np.ndarray


class Scorer(ABC):
    """Base of all scorers. A subclass stores its settings in `__init__` and computes in `_samples`.

    Attributes:
        name: what the scorer is registered as.
        needs_pairs: whether its settings call for a `ContrastProbe`; otherwise any probe will do.
        reads_data: whether the scores depend on the probe at all.
        divisible: whether batches are scored independently of each other, so that processes may share them.
    """

    name: ClassVar[str]
    needs_pairs: bool = False
    reads_data: ClassVar[bool] = True
    divisible: bool = True

    def score(
        self, model: nn.Module, table: ComponentTable, probe: Probe | None, placement: Placement | None = None
    ) -> Scores:
        """Score every component of `table` on `probe` (which only `movement` can do without).

        With several processes (`placement`) all of them call this; they share the probe, and all get the scores that
        one process would.

        Raises:
            DataError: no probe, or one without contrast pairs where they are needed.
            NonFiniteError: a score is NaN or infinite; names the component and the scorer.
        """
        return self.combine(self.samples(model, table, probe, placement), table)

    def measure(
        self, model: nn.Module, table: ComponentTable, probe: Probe | None, placement: Placement | None = None
    ) -> dict[str, Scores]:
        """What a snapshot records, by name, the scorer's own first: its `score`, unless it measures more in one go."""
        return {self.name: self.score(model, table, probe, placement)}

    def samples(
        self, model: nn.Module, table: ComponentTable, probe: Probe | None, placement: Placement | None = None
    ) -> np.ndarray:
        """What the scores are made of: float64 [m, n_components], a row an example or a minibatch, in probe order.

        The model is in eval mode meanwhile and as it was afterwards, also after an exception.

        Raises:
            DataError: no probe, or one without contrast pairs where they are needed.
        """
        self._check_probe(probe)
        place = placement or Placement()
        with scoring_mode(model):
            rows = self._shared(model, table, probe, place)
        place.settle()
        return rows

    def _shared(self, model: nn.Module, table: ComponentTable, probe: Any, place: Placement) -> np.ndarray:
        """Samples of the whole probe; processes take its batches in turn and put the rows together.

        Every process runs the same number of passes, as sharded weights are fetched by all or none.
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
                f"{self.name} gave {values[bad[0]]} for {table.components[bad[0]].name} ({len(bad)} of {len(table)} "
                "components are not finite). The model's loss or activations have probably diverged: lower the "
                "learning rate and resume from the last checkpoint, or look for infinite values in the data"
            )
        return Scores(values.astype(np.float32), stderr.astype(np.float32))

    def _check_probe(self, probe: Probe | None) -> None:
        if probe is None:
            raise DataError(f"{self.name} needs a probe to score on; got none")
        if self.needs_pairs and not probe.has_pairs:
            raise DataError(
                f"{self.name} with these settings needs contrast pairs, but the probe has plain text; give a dataset "
                "with columns clean, corrupted, answer, wrong_answer, or use the scorer 'gradient_activation'"
            )

    @abstractmethod
    def _samples(self, model: nn.Module, table: ComponentTable, probe: Any) -> np.ndarray:
        """Return float64 [m, n_components]; the model is in scoring mode."""

    def _combine(self, samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return mean_and_stderr(samples)


def turns(probe: Probe, place: Placement) -> Iterator[tuple[Batch, bool]]:
    """The batches that this process takes, and whether each counts: all take as many, the last one again if need be."""
    last = len(probe.batches) - 1
    for turn in range(0, last + 1, place.world):
        i = turn + place.rank
        yield probe.batches[min(i, last)], i <= last


SCORERS: dict[str, type[Scorer]] = {}
S = TypeVar("S", bound=type[Scorer])


def register(cls: S) -> S:
    """Class decorator: make a scorer available under its `name`."""
    SCORERS[cls.name] = cls
    return cls


def make_scorer(name: str, **params: Any) -> Scorer:
    """Build a registered scorer.

    Raises:
        UnknownNameError: no scorer of that name; the message offers the closest.
        ConfigError: a parameter the scorer does not have, or a value it cannot use.
    """
    if name not in SCORERS:
        raise UnknownNameError("scorer", name, SCORERS)
    known = inspect.signature(SCORERS[name]).parameters
    for param in params:
        if param not in known:
            raise ConfigError(
                f"scorer {name!r} has no parameter {param!r}{did_you_mean(param, known)}; "
                f"it has: {', '.join(known) or 'none'}"
            )
    return SCORERS[name](**params)


def mean_and_stderr(samples: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean [n] and its standard error std/sqrt(m) [n] of samples [m, n]; the error is NaN if m is 1."""
    m = len(samples)
    if m == 1:
        return samples[0], np.full(samples.shape[1], np.nan)
    return samples.mean(0), samples.std(0, ddof=1) / np.sqrt(m)
