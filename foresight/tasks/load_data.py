"""The tables that the data settings of a recipe stand for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
from datasets import Dataset, concatenate_datasets

from ..common.errors import ConfigError, DataError
from . import DATA_TASKS, TASKS
from . import task as task_by_name
from .columns import check_pairs, to_training, trainable
from .data_config import DataConfig
from .read_table import Source, read_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def load_data(
    config: DataConfig, tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> tuple[Dataset, Dataset | None, Dataset | None]:
    """Load the training table, the evaluation table and the contrast pairs; the last two may be None.

    Raises:
        ConfigError: neither `task` nor `dataset` is set, or both are and the task reads no data.
        DataError: data that cannot be used.
    """
    config.check_source()
    chat = bool(tokenizer.chat_template)
    train, evaluation, pairs = _of_task(config, tokenizer, seed) if config.task else (*_read(config, chat), None)
    if shares := config.shares():
        train = _mixed(train, shares, chat, seed)
    if config.contrast:
        pairs = read_table(config.contrast)
        check_pairs(pairs, tokenizer)
    return train, evaluation, pairs


def load_retained(config: DataConfig, tokenizer: PreTrainedTokenizerBase, seed: int = 0) -> Dataset | None:
    """Load the retained table, None if there is none; for a task, `task_examples` training examples.

    Rows that the base model of another run wrote (input_ids and labels, from the same tokenizer) are kept as they are.

    Raises:
        DataError: data that cannot be used.
    """
    if config.retained is None:
        return None
    if config.retained in (*TASKS, *DATA_TASKS):
        return task_by_name(config.retained).dataset(tokenizer, "train", config.task_examples, seed)
    table = read_table(config.retained, config.retained_split)
    if {"input_ids", "labels"} <= set(table.column_names):
        return table.select_columns(["input_ids", "labels"])
    return to_training(table, source=config.retained, chat=bool(tokenizer.chat_template))


def _of_task(config: DataConfig, tokenizer: PreTrainedTokenizerBase, seed: int) -> tuple[Dataset, Dataset, Dataset]:
    for template in ("prompt_template", "completion_template", "text_template"):
        if getattr(config, template):
            raise ConfigError(f"{template} is set, but the task {config.task!r} writes its own prompts; remove one")
    if config.task in DATA_TASKS:
        chosen = task_by_name(config.task, _source(config), config.labels())
    else:
        chosen = task_by_name(str(config.task))
    return (
        chosen.dataset(tokenizer, "train", config.task_examples, seed),
        chosen.dataset(tokenizer, "test", config.task_eval_examples, seed),
        chosen.contrast(tokenizer, "train", config.task_contrast_examples, seed),
    )


def _source(config: DataConfig) -> Source:
    return Source(
        config.dataset or "",
        config=config.dataset_config,
        split=config.dataset_split,
        test_path=config.eval_dataset,
        test_split=config.eval_dataset_split,
        column_names=config.column_names,
        delimiter=config.delimiter,
    )


def _read(config: DataConfig, chat: bool) -> tuple[Dataset, Dataset | None]:
    train, test = _source(config).read(held_out=None)
    named = (str(config.dataset), config.eval_dataset or str(config.dataset))
    return _trainable(config, train, named[0], chat), None if test is None else _trainable(config, test, named[1], chat)


def _mixed(train: Dataset, shares: Mapping[str, float], chat: bool, seed: int) -> Dataset:
    """A training table with further ones: drawn at random, and again where one has too few rows for its share."""
    rest = 1 - sum(shares.values())
    parts = [train]
    for k, (source, share) in enumerate(shares.items()):
        table = trainable(read_table(source), source, chat)
        if set(table.column_names) != set(train.column_names):
            raise DataError(
                f"mix: {source} has the columns {', '.join(table.column_names)} and the training dataset "
                f"{', '.join(train.column_names)}; expected the same in both"
            )
        n, generator = round(len(train) * share / rest), np.random.default_rng((seed, k))
        rounds = [generator.permutation(len(table)) for _ in range(-(-n // len(table)))]
        parts.append(table.select(np.concatenate([np.zeros(0, np.int64), *rounds])[:n]).cast(train.features))
    return concatenate_datasets(parts)


def _trainable(config: DataConfig, table: Dataset, source: str, chat: bool) -> Dataset:
    return to_training(
        table,
        prompt_template=config.prompt_template,
        completion_template=config.completion_template,
        text_template=config.text_template,
        label_map=config.labels(),
        label_column=config.label_column,
        source=source,
        chat=chat,
    )
