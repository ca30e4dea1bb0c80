"""What a comparison records: the cell (one run, described completely), its measures, and their typed JSON form."""

from __future__ import annotations

import hashlib
import json
import platform
from dataclasses import asdict, dataclass, field, fields
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

from ...common.errors import DataError, did_you_mean
from ...model.shipped import SHIPPED

RESULT = "result.json"
"""Name of a record's file in the folder of its cell."""

SCHEMA = 2
"""Version of every JSON file written here; a reader refuses another one instead of guessing."""

DISTRIBUTIONS = (
    "foresight-sft", "torch", "transformers", "trl", "peft", "accelerate", "datasets", "numpy", "scikit-learn", "scipy",
)  # fmt: skip

Stage = Literal["base", "tune", "track", "score"]


@dataclass(frozen=True)
class Cell:
    """One training run: everything that decides its outcome, so that equal cells have equal results.

    Attributes:
        stage: "base" (nothing is trained), "tune" (unscored task), "track" (unscored, for its trajectory), "score".
        arm: name of the arm; `draw` numbers its repetitions that differ in the random mask alone.
        model: folder or hub name of the base model, or `embedded.SHIPPED`.
        seed: of data order and of the training set's draw, the same for all arms that are paired.
        budget: share of all parameters that may be trained at a time.
        memory: name of the optimizer memory, whose settings are in `training`.
        method: "mask", or an adapter of `foresight.studies.adapters`.
        training: keywords of `ForesightConfig` (of `SFTConfig` for an adapter), the arm's own settings included.
        data: how many examples are drawn, the `retained` tasks, and how results are measured.
        history: keys of the runs whose trajectories the policy may learn from (never of a scored task).
        sources: what other runs give, role -> key: "realised", the full run of this task and seed whose circuit
            counts as the realised one; "oracle", the run that a hindsight arm looks into; "touched", the run whose
            number of touched vectors is the size of this one's mask.
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

    def key(self, environment: dict[str, str]) -> str:
        """Hex digest (16 characters) of the cell and of the code and versions it runs with."""
        text = json.dumps([SCHEMA, asdict(self), environment], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def replicate(self) -> tuple[str, int]:
        """(model, seed): what repeats a task."""
        return self.model, self.seed

    @property
    def label(self) -> str:
        draw = f" draw {self.draw}" if self.draw else ""
        model = "" if self.model == SHIPPED else f" of {self.model}"
        rate = f"lr {self.learning_rate:g}" + (f" ({self.memory})" if self.memory else "")
        return f"{self.stage} {self.arm}{draw}, {self.task}{model}, budget {self.budget:g}, seed {self.seed}, {rate}"


@dataclass(frozen=True)
class CurvePoint:
    """Held-out loss (nats per answer token) and accuracy of the target task after `step` optimizer steps.

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
        accuracy, loss: held-out, at the end of the run, by task: the target and, of a scored run, the retained ones.
        curve: over the run, step 0 included.
        log_loss_area: see `statistics.log_loss_area`.
        steps_to_target: optimizer steps until the held-out accuracy reaches the level asked for, by linear
            interpolation between evaluations; None if it never does.
        overlap: share of the realised circuit's vectors that were being trained, averaged over optimizer steps
            (a run whose first mask is right and whose last is wrong scores .5). 1 for `full` by construction.
        newcomers: the same share of those vectors that are not in the circuit of step 0; None if there are none.
        chance: the overlap that a random mask of the same size has on average.
        train_seconds: wall time of training, masks and what the policy needs to choose them; held-out evaluation,
            loading, and the snapshots that only the report needs are not in it.
        scoring_seconds: the part of `train_seconds` spent on scores and masks, scouting and trials included.
        peak_bytes: parameters, gradients, optimizer state and the ledger of changed vectors, as the sum of their
            tensors' sizes after the last step, or more if scouting held more; activations are not in it.
        trainable: parameters that were trained at a time, at most; `model_parameters`: all of the model's.
        touched: parameters that were trained at some time.
        schedule: [step, names of the mask's components] from each re-mask on; empty for masks of single weights.
        realised: names of the circuit that a full run ended with; None for every other run.
        forecast: what the policy expected last; None for policies that do not forecast.
        notes: what the trainer wants said (a skill, a share of time): the last value of each number it logged.
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


@dataclass(frozen=True)
class Record:
    """A finished cell: its measures, or the error that ended it."""

    key: str
    cell: Cell
    environment: dict[str, str]
    measures: Measures | None = None
    error: str | None = None

    @property
    def failed(self) -> bool:
        return self.measures is None

    def to_json(self) -> dict[str, Any]:
        return {"schema": SCHEMA, **asdict(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Record:
        """Raises DataError for another schema version, or for a record that lacks or adds fields."""
        data = dict(data)
        if data.pop("schema", None) != SCHEMA:
            raise DataError(f"result has another schema than {SCHEMA}; delete the folder and run again")
        record = _typed(cls, data)
        cell = _typed(Cell, record["cell"])
        cell["history"] = tuple(cell["history"])
        measures = record["measures"]
        if measures is not None:
            measures = _typed(Measures, measures)
            measures["curve"] = tuple(CurvePoint(**_typed(CurvePoint, point)) for point in measures["curve"])
            measures["schedule"] = tuple((int(step), tuple(names)) for step, names in measures["schedule"])
            if measures["realised"] is not None:
                measures["realised"] = tuple(measures["realised"])
            if measures["forecast"] is not None:
                forecast = _typed(LastForecast, measures["forecast"])
                measures["forecast"] = LastForecast(**{**forecast, "scores": tuple(forecast["scores"])})
            measures = Measures(**measures)
        return cls(**{**record, "cell": Cell(**cell), "measures": measures})


def read_record(path: Path) -> Record | None:
    """The record at `path`, or None if there is none yet. Raises DataError if it is damaged."""
    try:
        return Record.from_json(json.loads(path.read_text()))
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path} is not a result ({error}); delete it and run again") from error


@cache
def environment() -> dict[str, str]:
    """Versions, platform and a hash of all of foresight's own files; nothing that names the user or the machine."""
    found = {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
    for name in DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    package = Path(__file__).parents[2]
    code = hashlib.sha256()
    for file in sorted(p for p in package.rglob("*") if p.is_file() and p.parent.name != "__pycache__"):
        code.update(f"{file.relative_to(package).as_posix()}\0".encode() + file.read_bytes())
    return {**found, "code": code.hexdigest()[:12]}


def _typed(kind: type, data: dict[str, Any]) -> dict[str, Any]:
    """A copy of `data` whose keys are exactly the fields of `kind`."""
    known = [f.name for f in fields(kind)]
    unknown, missing = sorted(set(data) - set(known)), sorted(set(known) - set(data))
    if unknown or missing:
        hint = did_you_mean(unknown[0], known) if unknown else ""
        raise DataError(f"{kind.__name__}: unknown fields {unknown}{hint}, missing fields {missing}")
    return dict(data)
