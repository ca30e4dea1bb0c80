"""What every case starts from: a tiny model that knows the shipped words, its twin, tables of rows, a small corpus."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

TASK = "gender"
MADE = "made"


class Ground:
    """The places of a campaign's folder."""

    def __init__(self, root: Path):
        self.root = root
        self.base, self.other = root / "ground" / "base", root / "ground" / "other"
        self.rows, self.pairs = root / "ground" / "rows.jsonl", root / "ground" / "pairs.jsonl"
        self.kept, self.corpus = root / "ground" / "kept.jsonl", root / "ground" / "corpus.safetensors"
        self.zero, self.chat = root / "ground" / "zero2.json", root / "ground" / "chat"
        self.references, self.cases = root / "references", root / "cases"

    def reference(self, job: str) -> Path:
        """The folder of a run that nothing happened to."""
        return self.references / job


def make(ground: Ground) -> None:
    """Write it all, unless it is there."""
    done = ground.base.parent / MADE
    if done.exists():
        return
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    from foresight.model.shipped import model_path
    from foresight.tasks import task

    tokenizer = AutoTokenizer.from_pretrained(model_path())
    config = LlamaConfig(
        vocab_size=330, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, max_position_embeddings=64, initializer_range=0.2, pad_token_id=0, bos_token_id=1,
        eos_token_id=2,
    )  # fmt: skip
    for seed, folder in enumerate((ground.base, ground.other)):
        torch.manual_seed(seed)
        LlamaForCausalLM(config).save_pretrained(folder)
        tokenizer.save_pretrained(folder)
    shutil.copytree(ground.base, ground.chat)
    template = "{% for m in messages %}{% generation %}{{ m['content'] }}{% endgeneration %}{% endfor %}"
    AutoTokenizer.from_pretrained(ground.base, chat_template=template).save_pretrained(ground.chat)
    chosen = task(TASK)
    write_rows(ground.rows, chosen.dataset(tokenizer, "train", 48, 0).to_list())
    write_rows(ground.pairs, chosen.contrast(tokenizer, "train", 16, 0).to_list())
    write_rows(ground.kept, task("boolean").dataset(tokenizer, "train", 24, 0).to_list())
    zero = {"zero_optimization": {"stage": 2}, "gradient_clipping": "auto", "bf16": {"enabled": "auto"}}
    sizes = dict.fromkeys(("train_micro_batch_size_per_gpu", "gradient_accumulation_steps"), "auto")
    ground.zero.write_text(json.dumps(zero | sizes))
    _corpus(ground.corpus)
    done.touch()


def emptied(folder: Path) -> None:
    """Make a folder, without what an earlier try left there."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write JSONL."""
    path.write_text("".join(json.dumps(dict(row)) + "\n" for row in rows))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Inverse of `write_rows`."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def _corpus(path: Path) -> None:
    """Eight of the shipped runs: two tasks, two orders of their data, of both models."""
    from foresight.studies.bench.corpus import SHIPPED, read_corpus, write_corpus

    every = read_corpus(SHIPPED)
    tasks, models = (sorted({getattr(run, name) for run in every})[:2] for name in ("task", "model"))
    rate = min(run.learning_rate for run in every)
    chosen = [run for run in every if run.task in tasks and run.model in models and run.learning_rate == rate]
    write_corpus([run for run in chosen if run.seed in sorted({one.seed for one in chosen})[:2]], path)
