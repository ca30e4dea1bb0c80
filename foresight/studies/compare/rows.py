"""The data that a cell trains on and is scored with. Training rows are tokenized once per process, by TRL."""

from __future__ import annotations

import json
from dataclasses import fields

from datasets import Dataset, concatenate_datasets
from transformers import TrainingArguments
from trl import SFTConfig

from ...tasks import task
from ...tasks.user_task import UserTask
from .curve import tokenizer_of
from .results import Cell

KEPT = 16
"""Most tokenized training sets that a process keeps."""
_OF_TRL = sorted({f.name for f in fields(SFTConfig)} - {f.name for f in fields(TrainingArguments)})
"""Settings of training among which are all that change how rows are tokenized."""
_tokenized: dict[str, Dataset] = {}


def train_rows(cell: Cell) -> Dataset:
    """The training rows of a cell: prompt and completion, tokenized too if those of an equal cell were kept."""
    if (known := _tokenized.get(_key(cell))) is not None:
        return known
    chosen = task(cell.task, cell.data["sources"].get(cell.task))
    return chosen.dataset(tokenizer_of(cell.model), "train", cell.data["train_examples"], seed=cell.seed)


def keep(cell: Cell, rows: Dataset) -> None:
    """Keep the training rows of a cell as an SFTTrainer has prepared them; they must hold no other rows."""
    _tokenized[_key(cell)] = rows
    while len(_tokenized) > KEPT:
        del _tokenized[next(iter(_tokenized))]


def contrast_rows(cell: Cell) -> Dataset | None:
    """The contrast pairs of a cell; None for a user's task that has none."""
    chosen = task(cell.task, cell.data["sources"].get(cell.task))
    if isinstance(chosen, UserTask) and not chosen.has_pairs:
        return None
    return chosen.contrast(tokenizer_of(cell.model), "train", cell.data["probe_examples"], seed=cell.seed)


def retained_rows(cell: Cell) -> Dataset | None:
    """Training rows of the retained tasks, in equal parts, as many as the task has; None for an arm without them."""
    names = cell.data["retained"] if cell.data["retains"] else []
    if not names:
        return None
    share = max(1, cell.data["train_examples"] // len(names))
    sources, tokenizer = cell.data["sources"], tokenizer_of(cell.model)
    parts = [task(name, sources.get(name)).dataset(tokenizer, "train", share, seed=cell.seed) for name in names]
    return concatenate_datasets(parts).shuffle(seed=cell.seed)


def _key(cell: Cell) -> str:
    settings = {name: cell.training[name] for name in _OF_TRL if name in cell.training}
    source, examples = cell.data["sources"].get(cell.task), cell.data["train_examples"]
    return json.dumps([cell.model, cell.task, source, examples, cell.seed, settings, cell.inputs])
