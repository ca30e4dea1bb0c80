"""One cell: localize heads, or put one edit on the model, and measure the result.

Runs in a worker process. Everything here is deterministic given the cell.
"""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...model.components import component_table
from ...model.loading import load_model
from ...model.model_config import ModelConfig
from ...tasks import task
from ..compare.curve import EVALUATION_SEED, tokenizer_of
from ..runner import quiet
from .align import IPOTrainer, arguments, lora
from .cells import EDIT, ITI, LOCALIZE, LORA, Cell, Measures
from .edit import NONE, AdapterEdit, Intervention, RankOneEdit, Steering
from .localizers import JUDGES, Case, Judge, head_names, make_localizer
from .measures import effects, score_answers, text_classifier
from .preferences import Behaviour, inverted, load_behaviour, preferences
from .probes import read_outputs, shifts


def run_cell(cell: Cell, folder: Path) -> Measures:
    """Run one cell. The edit, if there is one, stays in `folder`. Raises ForesightError if training diverged, or a
    setting or the data cannot be used.
    """
    quiet()
    model = load_model(ModelConfig.of(cell.model), 0)
    model.to(torch.accelerator.current_accelerator() or "cpu")
    table, tokenizer = component_table(model), tokenizer_of(cell.model)
    behaviour = load_behaviour(cell.behaviour, tokenizer, cell.data["questions"], cell.seed)
    if cell.data["invert"]:
        behaviour = inverted(behaviour)
    if cell.method == LOCALIZE:
        name, params = cell.settings["localizer"]
        ranked = make_localizer(name, **params).rank(Case(model, table, tokenizer, behaviour, cell.seed))
        return Measures(ranked=tuple(ranked))

    def trained(**edit: Any) -> Any:
        how = {name: cell.settings[name] for name in ("tau", "learning_rate", "epochs", "batch_size", "more")}
        args = arguments(folder / "run", seed=cell.seed, **how)
        trainer = IPOTrainer(model, tokenizer, preferences(behaviour.train), args, **edit)
        trainer.train()
        return trainer.model

    began = time.perf_counter()
    intervention = NONE
    if cell.method == ITI:
        outputs, names = read_outputs(model, table, tokenizer, behaviour.train), head_names(table)
        found = shifts(cell.settings["direction"], outputs, [names.index(name) for name in cell.settings["heads"]])
        strength = cell.settings["strength"]
        added = {names[i]: torch.from_numpy(strength * shift) for i, shift in found.items()}
        intervention = Steering(model, table, added)
    elif cell.method == EDIT:
        intervention = edit = RankOneEdit(model, table, cell.settings["heads"], cell.settings["read"], cell.seed)
        trained(edit=edit)
        edit.save(folder / "edit.safetensors")
    elif cell.method == LORA:
        model = trained(peft_config=lora(model, table))
        intervention = AdapterEdit(model)
    elapsed = time.perf_counter() - began
    updated = cell.method in (EDIT, LORA)  # both freeze everything but the edit
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad) if updated else 0
    return replace(measure(cell, model, behaviour, intervention), seconds=elapsed, trainable=trainable)


def measure(cell: Cell, model: Any, behaviour: Behaviour, intervention: Intervention) -> Measures:
    """Effects on validation and test questions, accuracy in the retained tasks, and divergences."""
    tokenizer, data = tokenizer_of(cell.model), cell.data
    judges: dict[str, Judge] = {}
    if data["classifier"]:
        judges["classifier"] = text_classifier(behaviour.train)
    if data["judge"]:
        judges["judge"] = JUDGES.find(data["judge"])
    held_out, test = (
        effects(model, tokenizer, questions, intervention, judges, data["max_new_tokens"])
        for questions in (behaviour.validation, behaviour.test)
    )
    answers = [(question.prompt, question.right[0]) for question in behaviour.test]
    own_kl = float(score_answers(model, tokenizer, answers, intervention, divergence=True).divergence.mean())
    retained, divergences = {}, []
    for name in data["retained"]:
        examples = task(name).dataset(tokenizer, "test", data["retained_examples"], seed=EVALUATION_SEED)
        rows = list(zip(examples["prompt"], examples["completion"], strict=True))
        found = score_answers(model, tokenizer, rows, intervention, divergence=True)
        right = [task(name).correct(*row, text) for row, text in zip(rows, found.predicted, strict=True)]
        retained[name] = float(np.mean(right))
        divergences.append(found.divergence.mean())
    return Measures(
        validation={name: float(values.mean()) for name, values in held_out.items()},
        test={name: float(values.mean()) for name, values in test.items()},
        answers={name: values.tolist() for name, values in test.items()},
        retained=retained,
        kl=float(np.mean(divergences)) if divergences else own_kl,
        own_kl=own_kl,
    )
