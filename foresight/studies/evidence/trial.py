"""One cell: localize heads, or put one edit on the model, and measure the result.

Runs in a worker process. Everything here is deterministic given the cell.
"""

from __future__ import annotations

import time
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import get_peft_model
from transformers import set_seed

from ...model.components import component_table
from ...model.loading import load_model
from ...model.model_config import ModelConfig
from ...tasks import task
from ..compare.curve import EVALUATION_SEED, tokenizer_of
from ..ledger import RESULT, read_record
from ..provenance import cell_key, text_digest
from ..runner import quiet
from .align import IPOTrainer, arguments, lora
from .cells import EDIT, ITI, LOCALIZE, LORA, OUTPUTS, REFERENCE, Cell, Measures
from .edit import AdapterEdit, RankOneEdit, Steering
from .intervention import NONE, Intervention
from .localizers import JUDGES, Case, Judge, head_names, make_localizer
from .measures import Before, effects, score_answers, text_classifier
from .preferences import Behaviour, inverted, load_behaviour
from .probes import Outputs, read_outputs, shifts


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
    train, shared = behaviour.train, folder.parent / cell_key(cell.shared) if cell.shared else folder
    if cell.method == LOCALIZE:
        name, params = cell.settings["localizer"]
        ranked = make_localizer(name, **params).rank(Case(model, table, tokenizer, behaviour, cell.seed))
        return Measures(ranked=tuple(ranked))
    if cell.method == REFERENCE:
        args = arguments(folder / "run", 0.0, more=cell.settings["more"])
        return Measures(reference=tuple(IPOTrainer(model, tokenizer, train, args, 1.0).log_p.tolist()))
    if cell.method == OUTPUTS:
        np.savez(folder / OUTPUTS, **vars(read_outputs(model, table, tokenizer, train)))
        return Measures()

    def trained(model: Any, edit: Intervention) -> None:
        s = cell.settings
        record = read_record(shared / RESULT, Cell, Measures)
        reference = record.measures.reference if record and record.measures else None
        how = s["learning_rate"], s["epochs"], s["questions"], s["more"], cell.seed
        IPOTrainer(model, tokenizer, train, arguments(folder / "run", *how), s["tau"], edit, reference).train()

    began = time.perf_counter()
    intervention = NONE
    if cell.method == ITI:
        with np.load(shared / f"{OUTPUTS}.npz") as arrays:
            outputs, names = Outputs(**arrays), head_names(table)
        found = shifts(cell.settings["direction"], outputs, [names.index(name) for name in cell.settings["heads"]])
        strength = cell.settings["strength"]
        added = {names[i]: torch.from_numpy(strength * shift) for i, shift in found.items()}
        intervention = Steering(model, table, added)
    elif cell.method == EDIT:
        intervention = edit = RankOneEdit(model, table, cell.settings["heads"], cell.settings["read"], cell.seed)
        trained(model, edit)
        edit.save(folder / "edit.safetensors")
    elif cell.method == LORA:
        set_seed(cell.seed)  # of the adapter's first weights
        model = get_peft_model(model, lora(model, table))
        intervention = AdapterEdit(model)
        trained(model, intervention)
    elapsed = time.perf_counter() - began
    updated = cell.method in (EDIT, LORA)  # both freeze everything but the edit
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad) if updated else 0
    return replace(measure(cell, model, behaviour, intervention), seconds=elapsed, trainable=trainable)


@lru_cache(maxsize=1)
def _before(base: str) -> Before:
    """What the base says, kept by the process from one cell to the next."""
    return {}


def measure(cell: Cell, model: Any, behaviour: Behaviour, intervention: Intervention) -> Measures:
    """Effects on validation and test questions, accuracy in the retained tasks, and divergences."""
    tokenizer, data = tokenizer_of(cell.model), cell.data
    before = _before(text_digest([cell.model, cell.inputs]))
    judges: dict[str, Judge] = {}
    if data["classifier"]:
        judges["classifier"] = text_classifier(behaviour.train)
    if data["judge"]:
        judges["judge"] = JUDGES.find(data["judge"])
    asked = model, tokenizer, intervention, judges, data["max_new_tokens"]
    held_out, _ = effects(behaviour.validation, *asked)
    test, own_kl = effects(behaviour.test, *asked, before)
    retained, divergences = {}, []
    for name in data["retained"]:
        examples = task(name).dataset(tokenizer, "test", data["retained_examples"], seed=EVALUATION_SEED)
        rows = list(zip(examples["prompt"], examples["completion"], strict=True))
        found = score_answers(model, tokenizer, rows, intervention, range(len(rows)), before)
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
