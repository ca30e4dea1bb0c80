"""Make the shipped model: pre-train a small Llama on a weighted mixture of the generated tasks.

    python -m eval.shipped_model --config recipes/pretrain.yaml --out DIR

It runs on one CPU thread in float32 and is seeded: on one machine, the same versions of torch and transformers give the
same file. The loss is cross-entropy on the completion and the end-of-sequence token after it, as in SFT.
"""

from __future__ import annotations

import argparse
import json
import math
import random
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
import yaml
from datasets import Dataset
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase

from foresight.common.errors import ConfigError, did_you_mean
from foresight.tasks import task
from foresight.tasks.evaluation import HeldOut, collate, encode

from .word_tokenizer import MAX_LENGTH, task_tokenizer

Row = tuple[list[int], int]


@dataclass(frozen=True)
class PretrainConfig:
    """The recipe: three groups of tasks with their shares of the mixture (relative weights), and the training settings.

    The model should learn `retained` tasks well and `target` tasks just enough to learn them quickly later. `other`
    tasks are part of the mixture, with no claim about them.
    """

    retained: dict[str, float]
    target: dict[str, float]
    other: dict[str, float] = field(default_factory=dict)
    layers: int = 4
    width: int = 128
    heads: int = 8
    mlp_width: int = 384
    steps: int = 1500
    batch_size: int = 128
    learning_rate: float = 3e-3
    warmup_steps: int = 50
    weight_decay: float = 0.05
    seed: int = 0
    eval_examples: int = 200
    log_every: int = 100

    def __post_init__(self) -> None:
        names = [*self.retained, *self.target, *self.other]
        twice = {name for name in names if names.count(name) > 1}
        if twice:
            raise ConfigError(f"tasks {', '.join(sorted(twice))} are in two groups of the mixture; name each once")
        weights = self.weights
        if not weights or any(w <= 0 for w in weights.values()):
            raise ConfigError(f"mixture {weights}: expected at least one task, each with a positive weight")

    @property
    def weights(self) -> dict[str, float]:
        """The mixture: the share of every task, over all groups."""
        return {**self.retained, **self.target, **self.other}


def read_config(path: str | Path) -> PretrainConfig:
    """Read the YAML recipe. Raises ConfigError for an unknown key; the message offers the closest."""
    values = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    known = [f.name for f in fields(PretrainConfig)]
    for key in values:
        if key not in known:
            raise ConfigError(f"{path}: unknown key {key!r}{did_you_mean(key, known)}; known: {', '.join(known)}")
    return PretrainConfig(**values)


def pretrain(config: PretrainConfig, out: str | Path) -> dict:
    """Train, evaluate, and save model, tokenizer and ``card.json`` into the folder `out`; return the card."""
    torch.set_num_threads(1)
    torch.manual_seed(config.seed)
    began = time.perf_counter()
    tokenizer = task_tokenizer(task(name) for name in config.weights)
    model = _model(config, tokenizer)
    batches = _batches(config, tokenizer)
    tests = {name: task(name).dataset(tokenizer, "test", config.eval_examples) for name in config.weights}
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=config.weight_decay
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step, config))
    for step in range(1, config.steps + 1):
        loss = _step(model, next(batches))
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        if step % config.log_every == 0:
            scores = _scores(model, tokenizer, {name: table.select(range(50)) for name, table in tests.items()})
            accuracies = {name: score["accuracy"] for name, score in scores.items()}
            print(f"step {step}: loss {loss:.3f}, {time.perf_counter() - began:.0f} s, {accuracies}", flush=True)
    seconds = time.perf_counter() - began
    card = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "vocabulary": len(tokenizer),
        "retained": list(config.retained),
        "target": list(config.target),
        "test": _scores(model, tokenizer, tests),
        "recipe": asdict(config),
        "seconds": round(seconds, 1),
        "torch": torch.__version__,
    }
    out = Path(out)
    model.save_pretrained(out)
    tokenizer.save_pretrained(out)
    (out / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return card


def _model(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=config.width,
            intermediate_size=config.mlp_width,
            num_hidden_layers=config.layers,
            num_attention_heads=config.heads,
            num_key_value_heads=config.heads,
            max_position_embeddings=MAX_LENGTH,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def _batches(config: PretrainConfig, tokenizer: PreTrainedTokenizerBase) -> Iterator[list[Row]]:
    rng = random.Random(config.seed)
    streams = {name: task(name).stream(tokenizer, "train", config.seed) for name in config.weights}
    names, weights = list(config.weights), list(config.weights.values())
    while True:
        rows = []
        for name in rng.choices(names, weights, k=config.batch_size):
            example = next(streams[name])
            tokens, start = encode(tokenizer, example.prompt, example.completion)
            rows.append(([*tokens, tokenizer.eos_token_id], start))
        yield rows


def _rate(step: int, config: PretrainConfig) -> float:
    """Linear warm-up, then a cosine down to 5 % of the learning rate."""
    warm = min(1.0, (step + 1) / config.warmup_steps)
    return warm * (0.05 + 0.475 * (1 + math.cos(math.pi * step / config.steps)))


def _step(model: LlamaForCausalLM, rows: list[Row], chunks: int = 4) -> float:
    """Run backward on the mean loss per completion token, in chunks of similar length to keep padding short."""
    rows = sorted(rows, key=lambda row: len(row[0]))
    count = sum(len(tokens) - start for tokens, start in rows)
    size = -(-len(rows) // chunks)
    total = 0.0
    for at in range(0, len(rows), size):
        inputs, labels, _ = collate(rows[at : at + size])  # right padding needs no mask: causal attention never sees it
        hidden = model.model(input_ids=inputs).last_hidden_state[:, :-1]
        wanted = labels[:, 1:] >= 0
        logits, truth = model.lm_head(hidden[wanted]), labels[:, 1:][wanted]
        loss = nn.functional.cross_entropy(logits, truth, reduction="sum") / count
        loss.backward()
        total += loss.item()
    return total


def _scores(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, tests: dict[str, Dataset]) -> dict:
    return {name: HeldOut(tokenizer, table, correct=task(name).correct).measure(model) for name, table in tests.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description="Pre-train the model that ships with foresight.")
    parser.add_argument("--config", required=True, help="the recipe, recipes/pretrain.yaml")
    parser.add_argument("--out", required=True, help="folder for model, tokenizer and card")
    arguments = parser.parse_args()
    print(json.dumps(pretrain(read_config(arguments.config), arguments.out)["test"], indent=2))


if __name__ == "__main__":
    main()
