"""How repeatable maps of a real model are, early and late in a run, by what scoring costs.

    FORESIGHT_TEST_DATA=DIR python -m eval.scoring.repeatability --base MODEL --out eval/results/scoring

A random mask of 5 % is trained on SST-2, then one on IOI. At some steps every scorer scores the same held-out examples:
two halves of 8, 16, 32 and 64 of them agree on a share of the circuit (mean of 20 draws). `step_attribution` along
with training tells the same of what it has collected since the snapshot before, and of all it remembers. Costs are CPU
seconds of scoring, as a share of those of the training steps since the snapshot before.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback

from eval.real.tasks import sentiment
from foresight import ForesightConfig, ForesightTrainer
from foresight.common.files import write_json
from foresight.masks.selection import circuit_size
from foresight.model.placement import Placement
from foresight.scoring import make_scorer
from foresight.scoring.folds import Folds
from foresight.scoring.probes import ContrastProbe, Probe, TextProbe
from foresight.studies.runner import quiet
from foresight.tasks import task
from foresight.trajectory.metrics import overlap, top_k

STEPS, ROWS, HELD, DRAWS = 160, 8, 128, 20
AT = (0, 20, 60, 120, 160)
HALVES = (8, 16, 32, 64)
SCORERS: dict[str, dict[str, Any]] = {
    "gradient_activation": {}, "gradient_activation, relative": {"relative": True}, "attribution": {},
}  # fmt: skip
"""What there was for text, the same with every example counting alike, and what there is for contrast pairs."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", required=True, help="folder or hub name of the model")
    parser.add_argument("--out", type=Path, required=True, help="folder for repeatability.json and repeatability.md")
    parser.add_argument("--tasks", nargs="+", default=["sst2", "ioi"], choices=["sst2", "ioi"])
    given = parser.parse_args()
    quiet()
    lines: list[dict[str, Any]] = []
    for name in given.tasks:
        with tempfile.TemporaryDirectory() as folder:
            lines += followed(name, given.base, folder)
        write_json(given.out / "repeatability.json", lines)
    (given.out / "repeatability.md").write_text(page(lines))


def followed(name: str, base: str, folder: str) -> list[dict[str, Any]]:
    """Train on one task, and measure on the way: lines of task, step, loss, scorer, rows, agreement, seconds."""
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    pairs: Dataset | None = None
    if name == "ioi":
        chosen = task("ioi")
        found = chosen.dataset(tokenizer, "train", STEPS * ROWS + HELD, seed=0)
        pairs = chosen.contrast(tokenizer, "train", HELD, seed=1)
    else:
        rows = sentiment(random.Random(0), STEPS * ROWS + HELD)
        found = Dataset.from_list([{"prompt": prompt, "completion": answer} for prompt, answer in rows])
    args = ForesightConfig(
        folder, max_steps=STEPS, per_device_train_batch_size=ROWS, learning_rate=1e-3, policy="random", record=True,
        scorer="step_attribution", probe_every=20, gradient_checkpointing=False, use_cpu=True, bf16=False,
        report_to="none", disable_tqdm=True, logging_strategy="no", save_strategy="no", seed=0,
    )  # fmt: skip
    train = found.select(range(STEPS * ROWS))
    trainer = ForesightTrainer(model=model, args=args, train_dataset=train, processing_class=tokenizer)
    held = trainer._prepared(found.select(range(STEPS * ROWS, len(found))))
    probe: Probe = TextProbe.from_dataset(held, 16)
    contrast = None if pairs is None else ContrastProbe.from_dataset(pairs, tokenizer, 16)
    measuring = Measuring(trainer, name, probe, contrast)
    trainer.add_callback(measuring)
    trainer.train()
    return measuring.lines


class Measuring(TrainerCallback):
    """Measures at the steps `AT`, after the run's own snapshots."""

    def __init__(self, trainer: ForesightTrainer, name: str, probe: Probe, contrast: Probe | None):
        self.trainer, self.name, self.probe, self.contrast = trainer, name, probe, contrast
        self.lines: list[dict[str, Any]] = []
        self.k = circuit_size(trainer.table, trainer.run.n_vectors)
        self.trained = 0.0
        self.newest: Folds | None = None
        along = trainer.run.watcher.along
        self.fresh, along.fresh = along.fresh, self.seen

    def seen(self, placement: Placement) -> Folds | None:
        """What the run's watcher takes from training steps, kept for a look."""
        self.newest = self.fresh(placement)
        return self.newest

    def on_train_begin(self, args, state, control, **kwargs):
        self.measure(0)

    def on_step_begin(self, args, state, control, **kwargs):
        self.began = time.process_time()

    def on_step_end(self, args, state, control, **kwargs):
        self.trained += time.process_time() - self.began
        if state.global_step in AT:
            self.measure(state.global_step)

    def measure(self, step: int) -> None:
        trainer, table = self.trainer, self.trainer.table
        for scorer, params in SCORERS.items():
            probe = self.contrast if scorer == "attribution" else self.probe
            if probe is None:
                continue
            began = time.process_time()
            samples = make_scorer(scorer.split(",")[0], **params).samples(trainer.model, table, probe)
            seconds = (time.process_time() - began) / len(samples)
            for rows in HALVES:
                self.note(step, scorer, rows, self.agreement(samples, rows), seconds * rows)
        pool = trainer.run.watcher.pool
        if step and pool is not None and self.newest is not None:
            for name, folds in (("step_attribution", self.newest), ("step_attribution, pooled", pool)):
                agreement = folds.agreement(lambda magnitudes: top_k(magnitudes, self.k))
                self.note(step, name, int(folds.weights.sum()), agreement, 0.0)
        self.trained = 0.0

    def note(self, step: int, scorer: str, rows: int, agreement: float, seconds: float) -> None:
        share = seconds / self.trained if self.trained else None
        self.lines.append(dict(task=self.name, step=step, scorer=scorer, rows=rows, agreement=agreement, share=share))

    def agreement(self, samples: np.ndarray, rows: int) -> float:
        """Mean overlap of the circuits of two disjoint draws of so many examples."""
        rng, found = np.random.default_rng(0), []
        for _ in range(DRAWS):
            order = rng.permutation(len(samples))
            one, other = (np.abs(samples[order[at : at + rows]].mean(0)) for at in (0, rows))
            found.append(overlap(one, other, self.k))
        return float(np.mean(found))


def page(lines: list[dict[str, Any]]) -> str:
    """The table."""
    text = [f"# Repeatability of maps\n\n`{__doc__.splitlines()[2].strip()}`\n", __doc__.split("\n\n")[2]]
    for name in dict.fromkeys(line["task"] for line in lines):
        mine = [line for line in lines if line["task"] == name]
        steps = sorted({line["step"] for line in mine})
        text.append(f"\n## {name}\n\n| scorer | examples | " + " | ".join(f"step {s}" for s in steps) + " |")
        text.append("|---|---|" + "---|" * len(steps))
        for scorer in dict.fromkeys(line["scorer"] for line in mine):
            own = [line for line in mine if line["scorer"] == scorer]
            sizes = sorted({line["rows"] for line in own}) if "step_" not in scorer else [None]
            for rows in sizes:
                cells = {line["step"]: line for line in own if rows in (None, line["rows"])}
                row = [f"{cells[s]['agreement']:.2f}" if s in cells else "" for s in steps]
                text.append(f"| {scorer} | {rows or 'of the run'} | {' | '.join(row)} |")
    return "\n".join(text) + "\n"


if __name__ == "__main__":
    main()
