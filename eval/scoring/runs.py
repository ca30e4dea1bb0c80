"""Default runs of a real model on SST-2: what they cost beside LoRA and full fine-tuning, and when they re-mask.

    FORESIGHT_TEST_DATA=DIR python -m eval.scoring.runs --base MODEL --out eval/results/scoring/runs.json

200 steps of 8 rows each, one run after the other: a `foresight train` with nothing but these (`default`), LoRA of
rank 8 on every matrix by PEFT (`lora`), full fine-tuning by SFTTrainer (`full`); default runs whose rows are 3-digit
sums in the second half (`switch`), and such whose labels are shuffled (`shuffle`). CPU seconds are those of training.
Cores that share a memory are as slow as their neighbour lets them be: to compare two arms, run them side by side, each
pinned to a core and with an output of its own. So `default` was beside `lora`, and `default_again` beside `full`.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

from datasets import Dataset
from peft import LoraConfig
from torch.utils.data import SequentialSampler
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import SFTConfig, SFTTrainer

from eval.real.tasks import addition, sentiment
from foresight import ForesightConfig, ForesightTrainer
from foresight.common.files import write_json
from foresight.studies.runner import quiet

STEPS, ROWS = 200, 8
RATES = {"default": 1e-3, "switch": 1e-3, "shuffle": 1e-3, "lora": 1e-3, "full": 1e-4}
COMMON: dict[str, Any] = dict(
    max_steps=STEPS, per_device_train_batch_size=ROWS, use_cpu=True, bf16=False, report_to="none", disable_tqdm=True,
    logging_steps=20, save_strategy="no", seed=0,
)  # fmt: skip


def rows_of(arm: str) -> list[dict[str, str]]:
    """Rows of a run, in the order in which they are trained on."""
    rng = random.Random(0)
    pairs = sentiment(rng, STEPS * ROWS)
    if arm == "shuffle":
        labels = [label for _, label in pairs]
        rng.shuffle(labels)
        pairs = [(text, label) for (text, _), label in zip(pairs, labels, strict=True)]
    if arm == "switch":
        pairs[len(pairs) // 2 :] = [addition(3)(rng) for _ in range(len(pairs) // 2)]
    return [{"prompt": prompt, "completion": completion} for prompt, completion in pairs]


def run(arm: str, base: str, folder: str) -> dict[str, Any]:
    """Train one arm. Returns its CPU seconds and losses; of masked runs also what they say of their maps."""
    tokenizer, model = AutoTokenizer.from_pretrained(base), AutoModelForCausalLM.from_pretrained(base)
    common = dict(args=None, train_dataset=Dataset.from_list(rows_of(arm)), processing_class=tokenizer)
    settings = COMMON | {"output_dir": folder, "learning_rate": RATES[arm]}
    trainer: Any
    if arm in ("lora", "full"):
        lora = LoraConfig(r=8, lora_alpha=8, target_modules="all-linear") if arm == "lora" else None
        args = SFTConfig(gradient_checkpointing=False, **settings)
        trainer = SFTTrainer(model=model, peft_config=lora, **{**common, "args": args})
    else:
        args = ForesightConfig(gradient_checkpointing=False, **settings)
        trainer = ForesightTrainer(model=model, **{**common, "args": args})
        trainer._get_train_sampler = lambda *_: SequentialSampler(trainer.train_dataset)
    began = time.process_time()
    trainer.train()
    found = {"arm": arm, "cpu_seconds": time.process_time() - began}
    log = trainer.state.log_history
    found["loss"] = [[line["step"], line["loss"]] for line in log if "loss" in line]
    if arm not in ("lora", "full"):
        run = trainer.run
        found |= {
            "scoring_seconds": run.watcher.seconds, "choosing_seconds": run.choosing, "seconds": run.seconds,
            "examples": run.watcher.taken, "snapshots": run.trajectory.steps.tolist(),
            "remasks": [step for step, _ in run.schedule.entries], "said": run.trajectory.info.get("gate", {}),
            "agreement": [[e["step"], e["foresight/agreement"]] for e in log if "foresight/agreement" in e],
        }  # fmt: skip
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--base", required=True, help="folder or hub name of the model")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of what was found; goes on where it ended")
    parser.add_argument("--arms", nargs="+", choices=RATES, default=[*RATES])
    given = parser.parse_args()
    found = json.loads(given.out.read_text()) if given.out.exists() else {}
    quiet()
    for arm in given.arms:
        if arm not in found:
            with tempfile.TemporaryDirectory() as folder:
                found[arm] = run(arm, given.base, folder)
            write_json(given.out, found)
            print(arm, f"{found[arm]['cpu_seconds']:.0f} CPU seconds", flush=True)


if __name__ == "__main__":
    main()
