"""One run of the proving ground: train an arm on a task, and measure what it learned, what it kept and what it cost."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from peft import LoraConfig
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from foresight import ForesightConfig, ForesightTrainer, apply_delta
from foresight.bank.movement import movement
from foresight.masks.masks import Mask, WeightMask
from foresight.model.numbering import Numbering
from foresight.studies.runner import quiet
from foresight.tasks.evaluation import HeldOut

from . import maps
from .arms import ARMS, BUDGET
from .kept import Kept
from .tasks import rows

GROUND = 1
"""Version of what runs of the proving ground compute, beside `foresight.studies.provenance.SCIENCE`."""
MIXES = (0.25, 0.5, 0.75)
"""Shares of the trained weights at which runs without a mask are mixed with the base (WiSE-FT, arXiv 2109.01903)."""


@dataclass(frozen=True)
class Cell:
    """A run.

    Attributes:
        seed: of the rows and their order; draw: of the mask.
        earlier: the tasks that earlier runs were trained on, separated by blanks; "" for an arm that needs none.
        more: settings of the arm's policy that differ from the arm's.
    """

    arm: str
    task: str
    rate: float
    model: str
    seed: int = 0
    draw: int = 0
    steps: int = 60
    budget: float = BUDGET
    earlier: str = ""
    more: dict[str, Any] = field(default_factory=dict)
    ground: int = GROUND

    @property
    def label(self) -> str:
        return f"{self.arm} on {self.task} at {self.rate:g}, seed {self.seed}"


def identity(cell: Cell) -> str:
    """Text that is the same for equal cells, whatever version of the libraries ran them."""
    return json.dumps(asdict(cell), sort_keys=True)


@dataclass(frozen=True)
class Measures:
    """What came of a run.

    Attributes:
        curve: (step, held-out loss, held-out accuracy) half way and at the end.
        kept: of `Kept.measure`, at the end.
        trained: parameters trained at a time.
        cpu_seconds: of training and of choosing the mask; earlier_seconds: of the earlier runs, if any were needed.
        after: loss, accuracy and what is kept of the same weights mixed with the base or trimmed, by name.
    """

    curve: tuple[tuple[int, float, float], ...]
    kept: dict[str, float]
    trained: int
    cpu_seconds: float
    earlier_seconds: float = 0.0
    after: dict[str, dict[str, float]] = field(default_factory=dict)


class Curve(TrainerCallback):
    """Measures held-out loss and accuracy while a run goes on, and the CPU seconds of doing so."""

    def __init__(self, held_out: HeldOut, steps: int):
        self.held_out, self.at = held_out, {round(steps / 2), steps}
        self.points: list[tuple[int, float, float]] = []
        self.seconds = 0.0

    def on_step_end(self, args, state, control, model=None, **kwargs):
        if state.global_step in self.at:
            began = time.process_time()
            found = self.held_out.measure(model)
            self.points.append((state.global_step, found["loss"], found["accuracy"]))
            self.seconds += time.process_time() - began


def run_cell(cell: Cell, folder: Path) -> Measures:
    """Run one cell. Earlier runs lie in the folder `earlier` beside that of the runs, and are made once."""
    quiet()
    work = folder.parent.parent
    base_folder = work / "bases" / cell.model
    arm, tokenizer, model = ARMS[cell.arm], AutoTokenizer.from_pretrained(base_folder), load(base_folder)
    data = rows(cell.task, cell.seed)
    kept = Kept(model, tokenizer, work)
    before = [work / "earlier" / f"{cell.model}-{task}-{cell.seed}" for task in cell.earlier.split()]
    spent = sum(
        maps.earlier_run(place, partial(_earlier_run, task, cell, tokenizer))
        for task, place in zip(cell.earlier.split(), before, strict=True)
    )
    base = {name: p.detach().clone() for name, p in model.named_parameters()} if arm.method == "full" else None
    began = time.process_time()
    schedule = None
    if arm.control is not None:
        schedule = maps.write(*_control(cell, model, before), folder / "mask")
    if arm.onward:
        apply_delta(model, before[0] / "delta")
    curve = Curve(HeldOut(tokenizer, data["held_out"]), cell.steps)
    trainer = trainer_of(cell, folder / "run", model, tokenizer, data["now"], schedule, before)
    trainer.add_callback(curve)
    trainer.train()
    seconds = time.process_time() - began - curve.seconds
    measures = Measures(
        curve=tuple(curve.points),
        kept=kept.measure(trainer.model),
        trained=sum(p.numel() for p in trainer.model.parameters() if p.requires_grad),
        cpu_seconds=seconds,
        earlier_seconds=spent,
        after=_mixed(trainer.model, base, curve.held_out, kept, cell.budget) if base is not None else {},
    )
    shutil.rmtree(folder / "run", ignore_errors=True)
    return measures


def load(folder: Path) -> Any:
    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def trainer_of(
    cell: Cell,
    out: Path,
    model: Any,
    tokenizer: Any,
    train: Dataset,
    schedule: Path | None = None,
    before: Sequence[Path] = (),
) -> Any:
    """TRL's trainer for full fine-tuning and LoRA, foresight's for masks, with all else equal.

    Args:
        schedule: a mask that was made beforehand; before: earlier runs, for policies that learn from them.
    """
    arm = ARMS[cell.arm]
    shared: dict[str, Any] = {
        "output_dir": str(out), "max_steps": cell.steps, "per_device_train_batch_size": 16, "learning_rate": cell.rate,
        "warmup_steps": 0.1, "adam_beta2": 0.95, "weight_decay": 0.0, "max_grad_norm": 1.0, "seed": cell.seed,
        "use_cpu": True, "bf16": False, "gradient_checkpointing": False, "report_to": "none", "save_strategy": "no",
        "logging_strategy": "no", "disable_tqdm": True, "optim": "adamw_torch_fused",
    }  # fmt: skip
    set_seed(cell.seed)
    if arm.method != "mask":
        adapter = (
            LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM", **arm.settings) if arm.settings else None
        )
        trainer: Any = SFTTrainer(
            model=model, args=SFTConfig(**shared), train_dataset=train, processing_class=tokenizer, peft_config=adapter
        )
    else:
        own: dict[str, Any] = {"granularity": "weights", "budget": cell.budget, "mask_seed": cell.draw}
        if schedule is not None:
            own |= {"policy": "replay", "policy_params": {"mask_schedule": str(schedule)}}
        own |= {**arm.settings, **cell.more}
        if before and own["policy"] == "foresight":
            own["policy_params"] = {**own.get("policy_params", {}), "maps": [str(folder) for folder in before]}
        if own["policy"] == "full":
            own = {"policy": "full"}
        trainer = ForesightTrainer(
            model=model, args=ForesightConfig(**shared, **own), train_dataset=train, processing_class=tokenizer
        )
    trainer.remove_callback(PrinterCallback)
    return trainer


def _earlier_run(task: str, cell: Cell, tokenizer: Any, out: Path) -> None:
    """All matrices, trained on other rows in another order; only its delta stays."""
    run = Cell("all_maskable", task, maps.EARLIER_RATE, cell.model, cell.seed + 1000, steps=60)
    model = load(out.parents[1] / "bases" / cell.model)
    trainer_of(run, out, model, tokenizer, rows(task, cell.seed)["earlier"]).train()


def _control(cell: Cell, model: Any, before: Sequence[Path]) -> tuple[Mask | WeightMask, Numbering]:
    """The mask of a control, and the table that it is numbered in."""
    arm = ARMS[cell.arm]
    masks = maps.Masks(model, int(cell.budget * sum(p.numel() for p in model.parameters())), cell.draw)
    if not before:
        scores = {
            "largest": maps.magnitude(model, 1),
            "smallest": maps.magnitude(model, -1),
            "principal": maps.principal(model),
        }
        return masks.highest(scores[str(arm.control)]), masks.table
    moved = movement(before[0], model)
    match arm.control:
        case "circuit":
            return maps.circuit(model, moved, cell.budget, arm.settings["mlp_block"])
        case "rows":
            mask = masks.rows(moved)
        case "margins":
            mask = masks.by_margins(moved)
        case "highest":
            mask = masks.highest(moved)
        case by:
            mask = masks.drawn(masks.highest(moved), str(by))
    return mask, masks.table


@torch.no_grad()
def _mixed(model: Any, base: dict[str, torch.Tensor], held_out: HeldOut, kept: Kept, budget: float) -> dict[str, Any]:
    """What a full run is worth when it is mixed with the base, or when only the budget's largest changes are kept."""
    trained = {name: p.detach().clone() for name, p in model.named_parameters()}
    found = {}

    def measured() -> dict[str, float]:
        return held_out.measure(model) | kept.measure(model)

    for share in MIXES:
        for name, p in model.named_parameters():
            p.copy_(base[name] + share * (trained[name] - base[name]))
        found[f"mixed {share:g}"] = measured()
    changes = torch.cat([(trained[name] - base[name]).abs().flatten() for name in base]).numpy()
    n = int(budget * len(changes))
    changes.partition(len(changes) - n)
    least = float(changes[len(changes) - n])
    for name, p in model.named_parameters():
        change = trained[name] - base[name]
        p.copy_(base[name] + change * (change.abs() >= least))
    found["trimmed"] = measured()
    return found
