"""What others can add to a study: localizers, which say how much the heads have to do with a behaviour, and judges.

A localizer imports what it computes with when it is asked for scores, so that settings can be checked without torch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from ...common.errors import ConfigError, DataError, one_of
from ...common.plugins import Registry

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from ...model.components import ComponentTable, Tap
    from .preferences import Behaviour

Judge = Callable[[Sequence[str], Sequence[str]], Sequence[float]]
"""(prompts, generated answers) -> one number each; higher is better."""

JUDGES: Registry = Registry(
    "judge",
    Callable,  # type: ignore[arg-type]  # anything that can be called; to mypy it is no class
    __name__,
    (),
    group="foresight.evidence.judges",
)


def head_names(table: ComponentTable) -> list[str]:
    """All heads of a model, in model order."""
    return [component.name for component in table if component.kind == "head"]


def head_taps(table: ComponentTable, heads: Sequence[str]) -> dict[str, list[Tap]]:
    """Output projection -> the parts of its input that hold the outputs of these heads, in model order. Raises
    ConfigError for no head, one named twice, or (UnknownNameError) a name that is no head of this model.
    """
    if not heads or len(set(heads)) < len(heads):
        raise ConfigError(f"heads are {list(heads)}; expected at least one head, each once")
    known = head_names(table)
    wanted = {one_of("head", name, known) for name in heads}
    taps = (component.taps[0] for component in table if component.name in wanted)
    return {module: list(of_module) for module, of_module in groupby(taps, key=lambda tap: tap.module)}


@dataclass(frozen=True)
class Case:
    """A model and a behaviour. A localizer must not look at the test questions."""

    model: Any
    table: ComponentTable
    tokenizer: PreTrainedTokenizerBase
    behaviour: Behaviour
    seed: int = 0


class Localizer(ABC):
    """Base of all localizers. Its settings are its constructor's keywords."""

    name: ClassVar[str]

    @abstractmethod
    def scores(self, case: Case) -> Mapping[str, float] | np.ndarray:
        """One number per head, higher for heads that matter more: by name (others come last), or in model order."""

    def rank(self, case: Case) -> list[str]:
        """The heads, those that matter most first; ties in model order. Raises ConfigError or DataError if the case
        lacks what this localizer needs.
        """
        names = head_names(case.table)
        found = self.scores(case)
        if isinstance(found, Mapping):
            names = [name for name in names if name in found]
            found = np.array([found[name] for name in names])
        return [names[i] for i in np.argsort(-found, kind="stable")]


REGISTRY = Registry("localizer", Localizer, __name__, (), group="foresight.evidence.localizers")
register, localizer_names, make_localizer = REGISTRY.register, REGISTRY.names, REGISTRY.build


@register("attribution")
@dataclass
class AttributionPatching(Localizer):
    """How much of the behaviour's logit difference a head accounts for: |score| by a scorer, on `examples` contrast
    pairs of the training part at most.
    """

    scorer: str = "attribution"
    examples: int = 64

    def scores(self, case: Case) -> np.ndarray:
        from ...scoring import make_scorer
        from ...scoring.probes import ContrastProbe

        pairs = case.behaviour.pairs
        if pairs is None:
            raise DataError(
                "the localizer 'attribution' needs contrast pairs, and the behaviour has none; give rows with the "
                "columns clean, corrupted, answer, wrong_answer, or use another localizer"
            )
        probe = ContrastProbe.from_dataset(pairs, case.tokenizer, 32, self.examples)
        found = make_scorer(self.scorer).score(case.model, case.table, probe).values
        return np.abs(found[case.table.kind == "head"])


@register("forecast")
@dataclass
class Forecast(Localizer):
    """The heads that will matter later in fine-tuning, according to a forecast of a recorded run's scores.

    Args:
        trajectory: folder of a recorded trajectory of the same model.
        horizon: steps after the cutoff.
        cutoff: the last step that the forecaster may see; by default the last one recorded.
        scorer: which scores to forecast, if the run has several.
    """

    trajectory: str
    horizon: int
    forecaster: str = "damped_drift"
    cutoff: int | None = None
    scorer: str | None = None

    def scores(self, case: Case) -> np.ndarray:
        from ...forecasters import make_forecaster
        from ...trajectory.trajectory import Trajectory

        recorded = Trajectory.read(self.trajectory)
        recorded.require_table(case.table)
        series = recorded.series(self.scorer or recorded.scorers[0], self.cutoff)
        found = make_forecaster(self.forecaster).fit(series).predict(self.horizon)
        return found[case.table.kind == "head"]


@register("given")
@dataclass
class Given(Localizer):
    """The user's own list of heads such as L12.head.3, the most important first."""

    heads: Sequence[str]

    def __post_init__(self) -> None:
        if isinstance(self.heads, str):
            raise ConfigError(f"heads is {self.heads!r}; expected a list such as [L12.head.3]")

    def scores(self, case: Case) -> dict[str, float]:
        head_taps(case.table, self.heads)  # refuses names that are not heads
        return {name: float(-i) for i, name in enumerate(self.heads)}


@register("probes")
class ProbeAccuracy(Localizer):
    """How well a probe on a head, fitted to the training questions, tells right answers to validation questions from
    wrong ones, as in inference-time intervention.
    """

    def scores(self, case: Case) -> np.ndarray:
        from .probes import probe_accuracy, read_outputs

        parts = case.behaviour.train, case.behaviour.validation
        return probe_accuracy(*(read_outputs(case.model, case.table, case.tokenizer, part) for part in parts))
