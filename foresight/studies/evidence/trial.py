"""One cell: localize heads, or put one edit on the model, and measure the result.

Runs in a worker process. Everything here is deterministic given the cell.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...model.components import ComponentTable, component_table
from ...model.loading import load_model, load_tokenizer
from ...model.model_config import ModelConfig
from ...tasks import task
from ..runner import quiet
from .align import Alignment, align, align_lora
from .cells import LOCALIZE, LORA, Cell, Measures
from .edit import RankOneEdit
from .intervention import Intervention, head_names
from .judges import JUDGES, Judge, text_classifier
from .localizers import Case, make_localizer
from .measures import Answers, effects, score_answers
from .methods import EDIT, ITI
from .preferences import Behaviour, inverted, load_behaviour, preferences
from .probes import read_outputs, shifts
from .steering import Steering

EVALUATION_SEED = 1_000_000
"""Retained examples are the same for every edit and seed, and come from the tasks' test split."""

EDIT_FILE = "edit.safetensors"


def run_cell(cell: Cell, folder: Path) -> Measures:
    """Run one cell. The edit, if there is one, stays in `folder`.

    Raises:
        ForesightError: training diverged, or a setting or the data cannot be used.
    """
    quiet()
    model = load_model(ModelConfig.of(cell.model), 0)
    model.to(torch.accelerator.current_accelerator() or "cpu")
    table = component_table(model)
    tokenizer = tokenizer_of(cell.model)
    behaviour = load_behaviour(cell.behaviour, tokenizer, cell.data["questions"], cell.seed)
    if cell.data["invert"]:
        behaviour = inverted(behaviour)
    if cell.method == LOCALIZE:
        name, settings = cell.settings["localizer"]
        ranked = make_localizer(name, **settings).rank(Case(model, table, tokenizer, behaviour, cell.seed))
        return Measures(ranked=tuple(ranked))

    began = time.perf_counter()
    intervention: Intervention | None = None
    trainable = 0
    if cell.method == ITI:
        intervention = _steer(cell, model, table, behaviour)
    elif cell.method == EDIT:
        edit = RankOneEdit(model, table, cell.settings["heads"], cell.settings["read"], cell.seed)
        align(edit, model, tokenizer, preferences(behaviour.train), _alignment(cell), folder / "run")
        edit.save(folder / EDIT_FILE)
        trainable, intervention = sum(p.numel() for p in edit.parameters()), edit
    elif cell.method == LORA:
        rows = preferences(behaviour.train)
        model, intervention = align_lora(model, table, tokenizer, rows, _alignment(cell), folder / "run")
        trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    elapsed = time.perf_counter() - began
    return replace(measure(cell, model, behaviour, intervention), seconds=elapsed, trainable=trainable)


def measure(cell: Cell, model: Any, behaviour: Behaviour, intervention: Intervention | None) -> Measures:
    """Effects on validation and test questions, accuracy in the retained tasks, and divergences."""
    tokenizer, judges = tokenizer_of(cell.model), _judges(cell, behaviour)
    length = cell.data["max_new_tokens"]
    held_out = effects(model, tokenizer, behaviour.validation, intervention, judges, length)
    test = effects(model, tokenizer, behaviour.test, intervention, judges, length)

    def compared(rows: list[tuple[str, str]]) -> Answers:
        return score_answers(model, tokenizer, rows, intervention, divergence=True)

    own = compared([(question.prompt, question.right[0]) for question in behaviour.test])
    retained, divergences = {}, []
    for name in cell.data["retained"]:
        rows = _retained(cell, name)
        found = compared(rows)
        right = [task(name).correct(*row, text) for row, text in zip(rows, found.predicted, strict=True)]
        retained[name] = float(np.mean(right))
        divergences.append(found.divergence.mean())
    return Measures(
        validation={name: float(values.mean()) for name, values in held_out.items()},
        test={name: float(values.mean()) for name, values in test.items()},
        answers={name: values.tolist() for name, values in test.items()},
        retained=retained,
        kl=float(np.mean(divergences or [own.divergence.mean()])),
        own_kl=float(own.divergence.mean()),
    )


def _steer(cell: Cell, model: Any, table: ComponentTable, behaviour: Behaviour) -> Steering:
    outputs = read_outputs(model, table, tokenizer_of(cell.model), behaviour.train)
    names = head_names(table)
    found = shifts(cell.settings["direction"], outputs, [names.index(name) for name in cell.settings["heads"]])
    strength = cell.settings["strength"]
    return Steering(model, table, {names[i]: torch.from_numpy(strength * shift) for i, shift in found.items()})


def _alignment(cell: Cell) -> Alignment:
    return Alignment(
        **{name: cell.settings[name] for name in ("tau", "learning_rate", "epochs", "batch_size", "more")},
        seed=cell.seed,
        use_cpu=not torch.accelerator.is_available(),
    )


def _judges(cell: Cell, behaviour: Behaviour) -> dict[str, Judge]:
    judges: dict[str, Judge] = {}
    if cell.data["classifier"]:
        judges["classifier"] = text_classifier(behaviour.train)
    if cell.data["judge"]:
        judges["judge"] = JUDGES.find(cell.data["judge"])
    return judges


def _retained(cell: Cell, name: str) -> list[tuple[str, str]]:
    examples = cell.data["retained_examples"]
    rows = task(name).dataset(tokenizer_of(cell.model), "test", examples, seed=EVALUATION_SEED)
    return list(zip(rows["prompt"], rows["completion"], strict=True))


@cache
def tokenizer_of(model: str):
    """The tokenizer of a model, loaded once per process."""
    return load_tokenizer(ModelConfig.of(model))
