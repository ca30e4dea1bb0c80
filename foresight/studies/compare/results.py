"""What a comparison runs and records: a cell describes one run completely, measures say what it showed."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias

from ...model.shipped import SHIPPED
from .. import ledger

Stage = Literal["base", "tune", "track", "score"]


@dataclass(frozen=True)
class Cell:
    """One run: everything that decides its result.

    Attributes:
        stage: "base" (nothing is trained), "tune" (unscored task), "track" (unscored, for its trajectory), "score".
        arm: name of the arm; `draw` numbers its repetitions that differ only in the random mask.
        model: folder or Hub name of the base model, or `SHIPPED`.
        seed: of the data order and of the draw of training examples, the same for all arms that are paired.
        budget: share of all parameters that may be trained at a time.
        memory: name of the optimizer memory, whose settings are in `training`.
        method: "mask", or an adapter of `foresight.studies.adapters`.
        training: keywords of `ForesightConfig` (of `SFTConfig` for an adapter), the arm's own settings included.
        data: how many examples are drawn, the `retained` tasks, and how results are measured.
        history: keys of the runs whose trajectories the policy learns from (never of a scored task).
        sources: role -> key of the run that plays it: "realised", the full run of this task and seed, whose last
            circuit counts as the realised one; "oracle", the run that an arm with hindsight knows; "touched", the run
            whose number of touched vectors is the size of this one's mask.
        inputs: path -> digest of the model and of the task files on disk.
    """

    stage: Stage
    arm: str
    task: str
    model: str = SHIPPED
    seed: int = 0
    draw: int = 0
    budget: float = 0.0
    memory: str = ""
    learning_rate: float = 0.0
    method: str = "mask"
    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    sources: dict[str, str] = field(default_factory=dict)
    inputs: dict[str, str] = field(default_factory=dict)

    @property
    def unit(self) -> tuple[str, tuple[str, int]]:
        """(task, (model, seed)): what arms are paired over; a base model and a seed repeat a task."""
        return self.task, (self.model, self.seed)

    @property
    def label(self) -> str:
        draw = f" draw {self.draw}" if self.draw else ""
        model = "" if self.model == SHIPPED else f" of {self.model}"
        rate = f"lr {self.learning_rate:g}" + (f" ({self.memory})" if self.memory else "")
        return f"{self.stage} {self.arm}{draw}, {self.task}{model}, budget {self.budget:g}, seed {self.seed}, {rate}"


@dataclass(frozen=True)
class CurvePoint:
    """Held-out loss (nats per answer token) and accuracy on the target task after `step` optimizer steps.

    `retained_loss` and `retained_accuracy` are means over the retained tasks; None if there are none, and for runs
    that are not scored.
    """

    step: int
    loss: float
    accuracy: float
    retained_loss: float | None = None
    retained_accuracy: float | None = None


@dataclass(frozen=True)
class LastForecast:
    """The last forecast of a run: scores by component, in the order of its trajectory."""

    made_at: int
    for_step: int
    scores: tuple[float, ...]


@dataclass(frozen=True)
class Measures:
    """What one run showed.

    Attributes:
        accuracy, loss: held-out, at the end of the run, by task: the target and, for a scored run, the retained ones.
        curve: over the run, step 0 included.
        log_loss_area: see `common.intervals.log_loss_area`.
        steps_to_target: optimizer steps until the held-out accuracy reaches the target accuracy, interpolated between
            evaluations; None if it never does.
        overlap: share of the realised circuit's vectors that were trained, averaged over optimizer steps (a run whose
            first mask is right and whose last is wrong scores .5). 1 for `full` by construction.
        newcomers: the same share of those vectors that are not in the circuit of step 0; None if there are none.
        chance: the expected overlap of a random mask of the same size.
        train_seconds: wall time of training, of masks and of what the policy needs to choose them, without held-out
            evaluation, loading, and snapshots that only the report needs.
        scoring_seconds: the part of `train_seconds` spent on scores, masks and scouts.
        peak_bytes: see `curve.held_bytes`.
        trainable: most parameters that were trained at a time; `model_parameters`: all of the model's.
        touched: parameters that were trained at some time.
        schedule: [step, names of the mask's components] for each re-mask; empty for masks of single weights.
        realised: names of the circuit that a full run ended with; None for every other run.
        forecast: the last forecast; None for policies that do not forecast.
        notes: the last value of each number that the trainer logged, such as a forecast's skill.
        words: what the policy said of its choice (a gate's verdict), or None.
    """

    accuracy: dict[str, float]
    loss: dict[str, float] = field(default_factory=dict)
    curve: tuple[CurvePoint, ...] = ()
    log_loss_area: float | None = None
    steps_to_target: float | None = None
    overlap: float | None = None
    newcomers: float | None = None
    chance: float | None = None
    train_seconds: float = 0.0
    scoring_seconds: float = 0.0
    peak_bytes: int = 0
    trainable: int = 0
    model_parameters: int = 0
    touched: int = 0
    schedule: tuple[tuple[int, tuple[str, ...]], ...] = ()
    realised: tuple[str, ...] | None = None
    forecast: LastForecast | None = None
    notes: dict[str, float] = field(default_factory=dict)
    words: str | None = None


Record: TypeAlias = ledger.Record[Cell, Measures]
"""A finished run of a comparison."""


def read_record(folder: Path) -> Record | None:
    """The record in a run's folder, or None if there is none yet. Raises DataError if it is damaged."""
    return ledger.read_record(folder / ledger.RESULT, Cell, Measures)
