"""Probes: the examples that scores are measured on, tokenized, right-padded and batched.

Right padding is exact for causal models: no real position sees a padded one, so a padded batch and its examples one by
one give the same scores. Examples are batched in order of length, which keeps padding short.
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..common.errors import ConfigError, DataError, did_you_mean
from ..tasks.columns import check_pairs
from ..tasks.evaluation import IGNORED, padded

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True, eq=False)
class Batch:
    """Examples of one forward pass; all tensors are int64.

    Attributes:
        input_ids, attention_mask: [B, T].
        targets: [B, T]; the token that position t should predict (labels shifted left by one), -100 where no
            prediction is measured.
        corrupted_ids: [B, T]; the corrupted prompts, for contrast pairs only.
        wrong: [B]; the wrong answers, for contrast pairs only.
    """

    input_ids: Tensor
    attention_mask: Tensor
    targets: Tensor
    corrupted_ids: Tensor | None = None
    wrong: Tensor | None = None

    def __len__(self) -> int:
        return len(self.input_ids)

    @cached_property
    def labelled(self) -> tuple[Tensor, Tensor]:
        """Rows and positions of the M tokens that have a target, row by row: int64 [M] each."""
        rows, positions = (self.targets >= 0).nonzero(as_tuple=True)
        return rows, positions

    def _each(self, change: Callable[[Tensor], Tensor]) -> Batch:
        present = {f.name: getattr(self, f.name) for f in fields(self)}
        return replace(self, **{name: change(t) for name, t in present.items() if t is not None})

    def to(self, device: torch.device | str) -> Batch:
        return self._each(lambda t: t.to(device))

    def repeat(self, times: int) -> Batch:
        """The batch repeated: example b of copy c is row c * B + b."""
        return self._each(lambda t: t.repeat(times, *[1] * (t.ndim - 1)))

    def rows(self, which: slice | Tensor) -> Batch:
        return self._each(lambda t: t[which])


class Probe:
    """Batches to score on.

    Attributes:
        batches: tuple of `Batch`.
        n_examples: rows in all batches together.
        has_pairs: whether the batches have corrupted prompts and wrong answers.
    """

    has_pairs = False

    def __init__(self, batches: Iterable[Batch]):
        self.batches = tuple(batches)
        self.n_examples = sum(len(b) for b in self.batches)

    def only(self, batch: Batch) -> Probe:
        """A probe that has just one of the batches."""
        part = copy.copy(self)
        part.__dict__.pop("hash", None)
        part.batches, part.n_examples = (batch,), len(batch)
        return part

    def divided(self, rows: Callable[[Batch], int]) -> Probe:
        """The same examples in parts of batches of `rows(batch)` rows, or one where that is less."""
        part, batches = copy.copy(self), list[Batch]()
        part.__dict__.pop("hash", None)
        for batch in self.batches:
            size = max(1, rows(batch))
            batches += (batch.rows(slice(at, at + size)) for at in range(0, len(batch), size))
        part.batches = tuple(batches)
        return part

    @cached_property
    def hash(self) -> str:
        """Hex digest (16 characters) of every token and label; the same data in the same batches has the same hash."""
        digest = hashlib.sha256()
        for batch in self.batches:
            for field in fields(batch):
                tensor = getattr(batch, field.name)
                if tensor is not None:
                    digest.update(f"{field.name}{tuple(tensor.shape)}".encode())
                    digest.update(tensor.cpu().numpy().tobytes())
        return digest.hexdigest()[:16]


class ContrastProbe(Probe):
    """Clean and corrupted prompts of equal length, each with an answer and a wrong answer of one token."""

    has_pairs = True

    @classmethod
    def from_dataset(
        cls,
        dataset: Dataset,
        tokenizer: PreTrainedTokenizerBase,
        batch_size: int,
        max_examples: int | None = None,
    ) -> ContrastProbe:
        """Tokenize the first `max_examples` rows of a table with columns clean, corrupted, answer, wrong_answer.

        An answer is the one token that appending it adds to the tokenized prompt. Prompts get the tokenizer's special
        tokens, but no end-of-sequence token.

        Raises:
            DataError: rows that `check_pairs` refuses: an empty table, a missing column, prompts of unequal token
                lengths, answers that are equal or not a single known token. The message shows the row.
        """
        _check_sizes(batch_size, max_examples)
        dataset = dataset.select(range(min(len(dataset), max_examples or len(dataset))))
        answers, wrong = check_pairs(dataset, tokenizer)
        clean, corrupted = (_prompts(tokenizer, list(dataset[column])) for column in ("clean", "corrupted"))
        batches = []
        for picks in _by_length(clean, batch_size):
            ids, mask = padded([clean[i] for i in picks]), padded([[1] * len(clean[i]) for i in picks])
            targets = torch.full_like(ids, IGNORED)
            targets[torch.arange(len(picks)), mask.sum(1) - 1] = torch.tensor([answers[i] for i in picks])
            corrupted_ids = padded([corrupted[i] for i in picks])
            batches.append(Batch(ids, mask, targets, corrupted_ids, torch.tensor([wrong[i] for i in picks])))
        return cls(batches)


class TextProbe(Probe):
    """Plain text with labels, as in supervised fine-tuning. Examples in which no prediction counts are left out."""

    @classmethod
    def from_dataset(
        cls, dataset: Iterable[Mapping[str, Any]], batch_size: int, max_examples: int | None = None
    ) -> TextProbe:
        """Batch the first `max_examples` rows of a tokenized dataset, such as SFTTrainer prepares.

        A row has input_ids and may have labels. Without labels, completion_mask and assistant_masks (1 = counts) say
        which tokens count; without those, every token does. The documents of a packed row, whose seq_lengths give their
        tokens, are examples of their own: none sees another.

        Raises:
            DataError: no rows, no input_ids, or lists of unequal length (the message names the row); no token counts.
        """
        _check_sizes(batch_size, max_examples)
        rows = list(islice(dataset, max_examples))
        if not rows:
            raise DataError("text probe: the dataset is empty; expected at least one row")
        ids, labels = [], []
        for i, row in enumerate(rows):
            if "input_ids" not in row:
                raise DataError(
                    f"text probe, row {i}: no column 'input_ids'{did_you_mean('input_ids', row)}; found "
                    f"{', '.join(row)}. Tokenize the dataset first, or take the trainer's prepared one"
                )
            tokens = [int(t) for t in row["input_ids"]]
            marked, at = _labels(i, row, tokens), 0
            for length in row.get("seq_lengths") or [len(tokens)]:
                ids.append(tokens[at : at + length])
                labels.append(marked[at : at + length])
                at += length
        batches = []
        for picks in _by_length(ids, batch_size):
            targets = padded([[*labels[i][1:], IGNORED] for i in picks], IGNORED)
            batch = Batch(padded([ids[i] for i in picks]), padded([[1] * len(ids[i]) for i in picks]), targets)
            kept = (targets >= 0).any(1)
            if kept.any():
                batches.append(batch.rows(kept))
        if not batches:
            raise DataError("the text probe has no example with a token to predict; are all labels -100?")
        return cls(batches)


def _check_sizes(batch_size: int, max_examples: int | None) -> None:
    for name, value in (("batch_size", batch_size), ("max_examples", max_examples)):
        if value is not None and value < 1:
            raise ConfigError(f"probe: {name} is {value}; expected at least 1")


def _by_length(ids: Sequence[Sequence[int]], batch_size: int) -> list[list[int]]:
    order = sorted(range(len(ids)), key=lambda i: len(ids[i]))
    return [order[i : i + batch_size] for i in range(0, len(order), batch_size)]


def _prompts(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids with special tokens, without an end-of-sequence token that the tokenizer has appended."""
    ids = [list(row) for row in tokenizer(texts)["input_ids"]]
    for row, text in zip(ids, texts, strict=True):
        if row and row[-1] == tokenizer.eos_token_id and not text.endswith(tokenizer.eos_token):
            row.pop()
    return ids


def _labels(i: int, row: Mapping[str, Any], ids: list[int]) -> list[int]:
    def column(name: str) -> list[int]:
        values = [int(v) for v in row[name]]
        if len(values) != len(ids):
            raise DataError(
                f"text probe, row {i}: {name} has {len(values)} entries and input_ids {len(ids)}; expected equally many"
            )
        return values

    if row.get("labels") is not None:
        return column("labels")
    labels = ids
    for name in ("completion_mask", "assistant_masks"):
        if row.get(name) is not None:
            labels = [t if keep else IGNORED for t, keep in zip(labels, column(name), strict=True)]
    return labels
