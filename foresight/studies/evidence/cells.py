"""What a study of location runs and records: one localization, or one edit and what it did."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

from .. import ledger

EDIT, ITI = "edit", "iti"
METHODS = {EDIT: "The optimal edit", ITI: "The shift along a probe's direction"}
"""The methods that are compared, with the wording of the report."""

EFFECTS = {
    "choice": "right choices",
    "mass": "probability of right answers",
    "log_probability": "log-probability of the right answer",
    "classifier": "classifier's approval",
    "judge": "judge's rating",
}
"""What an edit does, see `measures`, with the wording of the report."""

BASE, LOCALIZE, LORA = "base", "localize", "lora"
"""What a cell may do besides the methods that are compared: measure the model as it is, rank heads, train LoRA."""
REFERENCE, OUTPUTS = "reference", "outputs"
"""What the model before the edit says and computes on the training questions; run once per seed, before the edits that
use it: log-probabilities for `EDIT` and `LORA`, outputs of heads for `ITI`."""
SHARED = {EDIT: REFERENCE, LORA: REFERENCE, ITI: OUTPUTS}


@dataclass(frozen=True)
class Cell:
    """One run: everything that decides its result.

    Attributes:
        method: `BASE`, `LOCALIZE`, `LORA`, or one of `METHODS`.
        seed: of the training questions and of the start of an edit.
        settings: of the method: the localizer by name and its parameters, or the heads and how they are edited.
        data: how many questions, the retained tasks, and how answers are judged.
        inputs: path -> digest of the model and of the behaviour, where they are files.
    """

    method: str
    behaviour: str
    model: str
    seed: int
    settings: dict[str, Any]
    data: dict[str, Any]
    inputs: dict[str, str]

    @property
    def label(self) -> str:
        at = [f", {name} {self.settings[name]:g}" for name in ("learning_rate", "strength") if name in self.settings]
        return f"{self.method}, {self.behaviour} of {self.model}, seed {self.seed}{''.join(at)}"

    @property
    def shared(self) -> Cell | None:
        """The cell whose result this one uses: the same for all heads, taus, rates and strengths."""
        if self.method not in SHARED:
            return None
        kept = {name: value for name, value in self.settings.items() if name == "more"}  # it sets the precision
        return replace(self, method=SHARED[self.method], settings=kept)


@dataclass(frozen=True)
class Measures:
    """What one run showed.

    Attributes:
        ranked: names of heads, best first: what a localization found.
        reference: log-probability per token of every answer to the training questions, by the model before the edit.
            The other fields are of edits.
        validation, test: effect -> mean over the validation and the test questions.
        answers: effect -> one number per test question, used to compare edits pairwise.
        retained: accuracy by retained task.
        kl, own_kl: KL(after || before) in nats: on the retained tasks if there are any, and on the behaviour.
        seconds, trainable: wall time of the edit, and the number of parameters that it trained.
    """

    ranked: tuple[str, ...] = ()
    reference: tuple[float, ...] = ()
    validation: dict[str, float] = field(default_factory=dict)
    test: dict[str, float] = field(default_factory=dict)
    answers: dict[str, list[float]] = field(default_factory=dict)
    retained: dict[str, float] = field(default_factory=dict)
    kl: float = 0.0
    own_kl: float = 0.0
    seconds: float = 0.0
    trainable: int = 0


Record: TypeAlias = ledger.Record[Cell, Measures]
"""A finished run of a study of location."""
