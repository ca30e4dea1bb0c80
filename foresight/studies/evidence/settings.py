"""`EvidenceConfig`: what `foresight evidence` runs. Its defaults equal recipes/evidence/demo.yaml."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...common.errors import ConfigError, UnknownNameError, mapping, one_of
from ...common.setting import setting
from ...model.shipped import SHIPPED, card
from ...tasks import TASKS
from .cells import EDIT, EFFECTS, ITI, METHODS
from .localizers import JUDGES, localizer_names


@dataclass(frozen=True)
class EvidenceConfig:
    """Settings of a study of one behaviour of one model. Raises ConfigError for one that cannot be used."""

    model: str = setting(SHIPPED, f"A folder or Hub name; {SHIPPED} is the one that comes with foresight.")
    behaviour: str = setting(
        "greater_than",
        "A generated task, or a file or folder with the columns prompt, chosen, rejected, or those of contrast pairs, "
        "or those of TruthfulQA.",
    )
    invert: bool = setting(True, "Prefer the wrong answers: the edit has to remove the behaviour.")
    retained_tasks: list[str] | None = setting(
        None,
        "Generated tasks on which side effects are measured; by default the tasks that the shipped model "
        "does well, if it is the model. Without any, the divergence is measured on the behaviour's own answers.",
    )
    heads: int = setting(4, "Heads in a set: a localizer's best, or a random draw.")
    draws: int = setting(
        39,
        "Number of random sets of heads; where no more sets exist, each is used once. The test needs at "
        "least 19 sets for one localizer, 20 n - 1 for n localizers.",
    )
    localizers: list[Any] = setting(
        ["probes", "attribution"], "Localizers: names, or mappings with name, like, and the localizer's settings."
    )
    methods: list[str] = setting(
        [EDIT, ITI], "edit: the optimal rank-one edit; iti: the shift of inference-time intervention."
    )
    read: str = setting("all", "What the optimal edit reads: all heads of a layer, or (heads) its own.")
    taus: list[float] = setting([0.05], "Strengths of the pull towards the model before the edit.")
    learning_rates: list[float] = setting([3e-2, 1e-1], "Learning rates that each set of heads is tuned over.")
    epochs: float = setting(4.0, "Passes over the pairs of a right and a wrong answer.")
    batch_size: int = setting(8, "Questions per optimizer step, each with all its pairs of a right and a wrong answer.")
    training: dict[str, Any] | str | None = setting(
        None, "Further fields of TrainingArguments, such as bf16 (JSON in a flag)."
    )
    direction: str = setting("mass_mean", "Direction of the shift: mass_mean or probe.")
    strengths: list[float] = setting([3.0, 10.0, 30.0], "Strengths of the shift to tune over, in standard deviations.")
    effect: str = setting("choice", f"Effect to tune for and compare: {', '.join(EFFECTS)}.")
    max_divergence: float | None = setting(
        None,
        "Largest allowed KL divergence (nats) from the model before the edit, to compare at equal side "
        "effect; a set without such a setting takes its smallest. Changing it runs nothing again.",
    )
    judge: str | None = setting(None, "module:function from lists of prompts and of generated answers to numbers.")
    classifier: bool = setting(False, "Also judge generated answers by a classifier fitted to the training answers.")
    max_new_tokens: int = setting(32, "Maximum length of generated answers, in tokens.")
    train_questions: int = setting(64, "Questions for localizing and training.")
    validation_questions: int = setting(48, "Questions for choosing settings.")
    test_questions: int = setting(96, "Questions for the reported effects.")
    retained_examples: int = setting(24, "Examples of each retained task.")
    seeds: int = setting(1, "Repetitions with other training questions and initial edits.")
    workers: int = setting(2, "Number of processes; on a CPU each uses one thread.")

    def __post_init__(self):
        object.__setattr__(self, "training", mapping("training", self.training, "a mapping, or JSON in a flag"))
        for name in ("localizers", "methods", "taus", "learning_rates", "strengths"):
            if not getattr(self, name):
                raise ConfigError(f"{name} is empty; expected at least one entry")
        for name in ("heads", "draws", "batch_size", "seeds", "workers", "max_new_tokens", "train_questions",
                     "validation_questions", "test_questions", "retained_examples"):  # fmt: skip
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}; expected at least 1")
        for name in ("taus", "learning_rates", "strengths", "epochs", "max_divergence"):
            value = getattr(self, name)
            if value is not None and min(value if isinstance(value, list) else [value]) <= 0:
                raise ConfigError(f"{name} is {value}; expected values above 0")
        for method in self.methods:
            one_of("method", method, METHODS)
        one_of("read", self.read, ("all", "heads"))
        one_of("direction", self.direction, ("mass_mean", "probe"))
        one_of("effect", self.effect, EFFECTS)
        if self.effect == "judge" and self.judge is None:
            raise ConfigError("effect is 'judge', but no judge is given; set judge to module:function")
        if self.effect == "classifier" and not self.classifier:
            raise ConfigError("effect is 'classifier', but classifier is off; set `classifier: true`")
        if self.judge is not None:
            JUDGES.find(self.judge)
        if self.behaviour not in TASKS and not Path(self.behaviour).exists():
            raise UnknownNameError("task, file or folder", self.behaviour, TASKS)
        for name in self.retained():
            one_of("retained task", name, TASKS)
        self.chosen()

    def chosen(self) -> dict[str, tuple[str, dict[str, Any]]]:
        """The localizers: name in this study -> (registered name, settings)."""
        found: dict[str, tuple[str, dict[str, Any]]] = {}
        for entry in self.localizers:
            settings = {"name": entry} if isinstance(entry, str) else entry
            if not isinstance(settings, dict) or not isinstance(settings.get("name"), str):
                raise ConfigError(f"localizer {entry!r}: expected a name, or a mapping with name, like and settings")
            settings = dict(settings)
            name = settings.pop("name")
            like = str(settings.pop("like", name))
            if name in found:
                raise ConfigError(f"localizer {name!r} is listed twice; give one of them another name")
            if ":" not in like:
                one_of("localizer", like, localizer_names())
            found[name] = (like, settings)
        return found

    def retained(self) -> list[str]:
        """The retained tasks, without the behaviour."""
        if (found := self.retained_tasks) is None:
            found = card()["retained"] if self.model == SHIPPED else []
        return [name for name in found if name != self.behaviour]
