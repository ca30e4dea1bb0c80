"""The tables that the data settings of a recipe stand for, with the columns that SFTTrainer takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING

from datasets import Dataset

from ..common.errors import ConfigError, DataError, did_you_mean
from . import DATA_TASKS, TASKS
from . import task as task_by_name
from .columns import check_pairs, require_columns
from .data_config import DataConfig
from .read_table import Source, read_table

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_TRAINABLE = (("messages",), ("prompt", "completion"), ("text",))
_COMPANIONS = ("tools", "chat_template_kwargs")  # columns that SFTTrainer reads beside the conversation


def load_data(
    config: DataConfig, tokenizer: PreTrainedTokenizerBase, seed: int = 0
) -> tuple[Dataset, Dataset | None, Dataset | None]:
    """Load the training table, the evaluation table and the contrast pairs; the last two may be None.

    Raises:
        ConfigError: neither `task` nor `dataset` is set, or both are and the task reads no data.
        DataError: data that cannot be used.
    """
    config.check_source()
    train, evaluation, pairs = _of_task(config, tokenizer, seed) if config.task else (*_read(config), None)
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
    return to_training(table, DataConfig(), config.retained)


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


def _read(config: DataConfig) -> tuple[Dataset, Dataset | None]:
    train, test = _source(config).read(held_out=None)
    named = str(config.dataset)
    return (
        to_training(train, config, named),
        None if test is None else to_training(test, config, config.eval_dataset or named),
    )


def to_training(table: Dataset, config: DataConfig, source: str = "the dataset") -> Dataset:
    """Return `table` with the columns that SFTTrainer takes: messages, prompt and completion, or text.

    Without templates the table must already have one of these sets. Templates are ``string.Template`` texts over its
    columns (``"Review: $sentence\\nSentiment:"`` and ``" $label"``); `label_map` replaces the values of `label_column`
    first.

    Raises:
        DataError: missing columns, an unknown column in a template, a label that is not mapped, or an empty cell.
        ConfigError: templates that exclude one another, need one another, or are malformed.
    """
    given = {column: getattr(config, f"{column}_template") for column in ("prompt", "completion", "text")}
    templates = {column: text for column, text in given.items() if text}
    if "text" in templates and len(templates) > 1:
        raise ConfigError("text_template excludes prompt_template and completion_template: choose one form")
    if ("prompt" in templates) != ("completion" in templates):
        raise ConfigError("prompt_template and completion_template need each other: give both, or text_template alone")
    if label_map := config.labels():
        if not templates:
            raise ConfigError("label_map needs templates that use the mapped label")
        table = _map_labels(table, label_map, config.label_column, source)
    if not templates:
        return _as_it_is(table, source)
    parsed = {column: _parse(text, column, table.column_names, source) for column, text in templates.items()}
    used = sorted({name for template in parsed.values() for name in template.get_identifiers()})

    def fill(row: dict, i: int) -> dict[str, str]:
        for name in used:
            if row[name] is None or row[name] == "":
                raise DataError(f"{source}: row {i} has no value in column {name!r}, which a template uses: {row}")
        return {column: template.substitute(row) for column, template in parsed.items()}

    return table.map(fill, with_indices=True, remove_columns=table.column_names, desc="Filling templates")


def _map_labels(table: Dataset, label_map: Mapping[str, str], column: str, source: str) -> Dataset:
    require_columns(table.column_names, [column], f"label_map over {source}")
    names = {str(key): str(value) for key, value in label_map.items()}
    labels = [str(value) for value in table[column]]
    for i, label in enumerate(labels):
        if label not in names:
            raise DataError(f"{source}: row {i} has {column} {label!r}, which label_map does not name: {table[i]}")
    return table.remove_columns(column).add_column(column, [names[label] for label in labels])


def _parse(text: str, column: str, columns: Sequence[str], source: str) -> Template:
    template = Template(text)
    if not template.is_valid():
        raise ConfigError(f"{column}_template {text!r} has a stray $; write $name for a column, $$ for a dollar sign")
    for name in template.get_identifiers():
        if name not in columns:
            raise DataError(
                f"{column}_template {text!r} names the column {name!r}{did_you_mean(name, columns)}; "
                f"{source} has {', '.join(columns)}"
            )
    if not template.get_identifiers():
        raise ConfigError(f"{column}_template {text!r} names no column, so every row would be the same")
    return template


def _as_it_is(table: Dataset, source: str) -> Dataset:
    for columns in _TRAINABLE:
        if all(column in table.column_names for column in columns):
            keep = [c for c in (*columns, *_COMPANIONS) if c in table.column_names]
            table = table.select_columns(keep)
            for column in columns:
                for i, value in enumerate(table[column]):
                    if value is None or (value == "" and column != "prompt"):
                        raise DataError(f"{source}: row {i} has no value in column {column!r}: {table[i]}")
            return table
    wanted = [column for columns in _TRAINABLE for column in columns]
    hints = "".join(did_you_mean(name, wanted) for name in table.column_names)
    raise DataError(
        f"{source} has the columns {', '.join(table.column_names)}{hints}; expected text, messages, or prompt and "
        "completion. Rename them, or build them with prompt_template and completion_template"
    )
