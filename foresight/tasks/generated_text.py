"""Retained data that nobody has to supply: text that the base model writes, which represents what it knows.

Rows are continuations sampled at temperature 1, so they follow the base model's own distribution: in expectation,
cross-entropy on them is the divergence KL(base || model) plus a constant. Only continuations are labelled, since the
prompts are not the model's words.
"""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.errors import DataError
from ..common.files import write_whole
from .evaluation import IGNORED, padded

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

BATCH = 32


@dataclass(frozen=True)
class TextSource:
    """What text is generated from. On one machine, the same source and model give the same rows.

    Attributes:
        rows: how many rows to write.
        tokens: new tokens per row, fewer where the model ends its text.
        seed: for sampling and for random prompts; the process's own random state is left as it was.
        prompts: texts to continue, in turn; None starts each row with the beginning-of-sequence token, if there is
            one, and a random ordinary token.
    """

    rows: int
    tokens: int
    seed: int
    prompts: tuple[str, ...] | None = None

    def key(self, model: str) -> str:
        """Hex digest (12 characters) of the source and a name or hash of the model."""
        text = json.dumps([model, self.rows, self.tokens, self.seed, self.prompts])
        return hashlib.sha256(text.encode()).hexdigest()[:12]


def generate(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: TextSource) -> list[dict[str, Any]]:
    """Write rows of input_ids, labels (-100 for the prompt) and text.

    Raises:
        DataError: a prompt without tokens or without room for a continuation, or no ordinary token to start from.
    """
    prompts = _prompts(model, tokenizer, source)
    new: list[list[int]] = []
    training = model.training
    model.eval()
    try:
        with torch.random.fork_rng(), torch.no_grad():
            torch.manual_seed(source.seed)
            for start in range(0, len(prompts), BATCH):
                new += _sample(model, prompts[start : start + BATCH], source.tokens)
    finally:
        model.train(training)
    return [
        {"input_ids": [*old, *row], "labels": [IGNORED] * len(old) + row, "text": tokenizer.decode([*old, *row])}
        for old, row in zip(prompts, new, strict=True)
    ]


def read(path: str | Path) -> list[dict[str, Any]]:
    """Read rows that `generate_once` wrote. Raises DataError, naming file and line, for anything else."""
    found = []
    for number, line in enumerate(Path(path).read_text(encoding="utf-8").splitlines(), 1):
        try:
            row = json.loads(line)
            fits = len(row["input_ids"]) == len(row["labels"]) > 0
            if not fits or not all(type(token) is int for token in (*row["input_ids"], *row["labels"])):
                raise ValueError("input_ids and labels must be lists of integers of equal length")
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(f"{path}, line {number}: not a generated row ({error}); delete the file") from error
        found.append(row)
    if not found:
        raise DataError(f"{path} is empty; delete the file to have the text generated again")
    return found


def generate_once(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: TextSource, path: Path) -> float:
    """Generate rows and write them to `path` as JSON lines, unless it exists. Returns the seconds that this took."""
    began = time.perf_counter()
    if not path.exists():
        rows = generate(model, tokenizer, source)
        text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        write_whole(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))
    return time.perf_counter() - began


def _prompts(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, source: TextSource) -> list[list[int]]:
    if source.prompts:
        texts = [source.prompts[i % len(source.prompts)] for i in range(source.rows)]
        rows = [list(row) for row in tokenizer(texts)["input_ids"]]
        for text, row in zip(texts, rows, strict=True):
            if row and row[-1] == tokenizer.eos_token_id:
                row.pop()  # a text that has ended cannot be continued
            if not row:
                raise DataError(f"the prompt {text!r} has no tokens to continue; remove it")
        return rows
    special = set(tokenizer.all_special_ids)
    size = min(len(tokenizer), model.config.get_text_config().vocab_size)
    ordinary = torch.tensor([token for token in range(size) if token not in special])
    if not len(ordinary):
        raise DataError("the tokenizer has special tokens only; give prompts to continue instead")
    picks = torch.randint(len(ordinary), (source.rows,), generator=torch.Generator().manual_seed(source.seed))
    begin = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [[*begin, token] for token in ordinary[picks].tolist()]


def _sample(model: PreTrainedModel, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """Sample continuations at temperature 1, without truncation, up to and including the end-of-sequence token."""
    from transformers import GenerationConfig

    config = model.generation_config
    ends = config.eos_token_id if isinstance(config.eos_token_id, list) else [config.eos_token_id]
    pad = next((token for token in (config.pad_token_id, *ends) if token is not None), 0)
    length = max(map(len, prompts))
    room = getattr(model.config.get_text_config(), "max_position_embeddings", length + tokens) - length
    if room < 1:
        raise DataError(f"a prompt of {length} tokens leaves no room to continue it; give shorter prompts")
    ids = padded(prompts, pad, "left").to(model.device)
    mask = padded([[1] * len(row) for row in prompts], side="left").to(model.device)
    plain = GenerationConfig(
        do_sample=True, temperature=1.0, top_k=0, top_p=1.0, repetition_penalty=1.0, max_new_tokens=min(tokens, room),
        bos_token_id=config.bos_token_id, eos_token_id=config.eos_token_id, pad_token_id=pad,
    )  # fmt: skip
    new: Tensor = model.generate(input_ids=ids, attention_mask=mask, generation_config=plain)[:, length:]
    return [
        next((row[: i + 1] for i, token in enumerate(row) if token in ends), row)  # None is no token
        for row in new.tolist()
    ]
