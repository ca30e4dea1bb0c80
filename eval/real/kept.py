"""What a model should keep: how far its predictions have moved from the base on text, and facts that the base knows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from filelock import FileLock

from foresight.common.files import write_json
from foresight.tasks.evaluation import HeldOut

from .tasks import general_text

LENGTH, ROWS = 32, 16
FACTS = {
    "The capital of {} is": "France:Paris Italy:Rome Germany:Berlin Spain:Madrid Japan:Tokyo Russia:Moscow "
    "England:London Egypt:Cairo Greece:Athens "
    "China:Beijing Poland:Warsaw Austria:Vienna Ireland:Dublin Cuba:Havana Peru:Lima",
    "The opposite of {} is": "hot:cold big:small up:down left:right black:white open:closed day:night good:bad",
    "One {}, two": "cat:cats dog:dogs book:books tree:trees house:houses car:cars bird:birds girl:girls",
    "The day after {} is": "Monday:Tuesday Tuesday:Wednesday Wednesday:Thursday Thursday:Friday Friday:Saturday",
}


class Kept:
    """Measures a model against the base that it started as.

    Args:
        model: the base, as it is now: its predictions are taken at once.
        folder: where text that the base has written is kept, so that it is written once.
    """

    def __init__(self, model: Any, tokenizer: Any, folder: Path):
        self.batches = {
            "text": _cut(tokenizer, general_text()),
            "own": _own_text(model, tokenizer, folder / "own_text.json"),
        }
        self.before = {name: _predictions(model, ids) for name, ids in self.batches.items()}
        pairs = [(text.format(key), f" {value}") for text, listed in FACTS.items()
                 for key, value in (entry.split(":") for entry in listed.split())]  # fmt: skip
        facts = Dataset.from_dict({"prompt": [p for p, _ in pairs], "completion": [c for _, c in pairs]})
        self.facts = HeldOut(tokenizer, facts)

    def measure(self, model: Any) -> dict[str, float]:
        """KL from the base on general text and on its own text (nats per token), loss on general text, and the share of
        facts that the model still knows."""
        found: dict[str, float] = {}
        for name, ids in self.batches.items():
            before, now = self.before[name], _predictions(model, ids)
            found[f"kl_{name}"] = float((before.exp() * (before - now)).sum(-1).mean())
            if name == "text":
                found["text_loss"] = float(-now[:, :-1].gather(-1, ids[:, 1:, None]).mean())
        return found | {"facts": self.facts.measure(model)["accuracy"]}


@torch.no_grad()
def _predictions(model: Any, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities, float32 [rows, tokens, vocabulary]."""
    training = model.training
    model.eval()
    logits = model(input_ids=ids).logits.float()
    model.train(training)
    return logits.log_softmax(-1)


def _cut(tokenizer: Any, texts: list[str]) -> torch.Tensor:
    ids = tokenizer(" ".join(texts))["input_ids"]
    starts = range(0, len(ids) - LENGTH, max(LENGTH, (len(ids) - LENGTH) // ROWS))
    return torch.tensor([ids[start : start + LENGTH] for start in starts][:ROWS])


def _own_text(model: Any, tokenizer: Any, file: Path) -> torch.Tensor:
    """Rows that the base has written, sampled with a fixed seed; int64 [ROWS, LENGTH]."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{file}.lock"):
        if not file.exists():
            torch.manual_seed(0)
            start = torch.full((ROWS, 1), tokenizer.bos_token_id)
            ids = model.generate(start, attention_mask=torch.ones_like(start), do_sample=True, top_k=0,
                                 min_new_tokens=LENGTH - 1, max_new_tokens=LENGTH - 1)  # fmt: skip
            write_json(file, ids.tolist())
        return torch.tensor(json.loads(file.read_text()))
