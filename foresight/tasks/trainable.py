"""Tables that SFTTrainer can train on: as they are, or built from other columns by templates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError, DataError, did_you_mean
from .columns import require_columns
from .conversations import as_conversations
from .data_config import DataConfig

if TYPE_CHECKING:
    from datasets import Dataset

_TRAINABLE = (("messages",), ("prompt", "completion"), ("text",))
_ALPACA = ("instruction", "output")
_COMPANIONS = ("tools", "chat_template_kwargs")  # columns that SFTTrainer reads beside the conversation


def to_training(table: Dataset, config: DataConfig, source: str = "the dataset", chat: bool = False) -> Dataset:
    """Return `table` with the columns that SFTTrainer takes: messages, prompt and completion, or text.

    Without templates the table must be one that `trainable` takes. Templates are ``string.Template`` texts over its
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
        return trainable(table, source, chat)
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


def trainable(table: Dataset, source: str, chat: bool = False) -> Dataset:
    """Return a table of text, messages, or prompt and completion, or one that says the same in ShareGPT's columns
    (conversations) or Alpaca's (instruction, input, output).

    Args:
        chat: make conversations of Alpaca's rows, for a tokenizer that has a chat template, instead of text.

    Raises:
        DataError: other columns, or the first row that cannot be used.
    """
    table = as_conversations(table, source)
    if set(_ALPACA) <= set(table.column_names):
        table = _of_alpaca(table, chat)
    for columns in _TRAINABLE:
        if all(column in table.column_names for column in columns):
            keep = [c for c in (*columns, *_COMPANIONS) if c in table.column_names]
            table = table.select_columns(keep)
            for column in columns:
                for i, value in enumerate(table[column]):
                    if value is None or (value == "" and column != "prompt"):
                        raise DataError(f"{source}: row {i} has no value in column {column!r}: {table[i]}")
                    if not isinstance(value, (str, list)):
                        raise DataError(f"{source}: row {i} has {value!r} in column {column!r}; expected text")
            return table
    wanted = [column for columns in _TRAINABLE for column in columns]
    hints = "".join(did_you_mean(name, wanted) for name in table.column_names)
    raise DataError(
        f"{source} has the columns {', '.join(table.column_names)}{hints}; expected text, messages, or prompt and "
        "completion (or those of ShareGPT or Alpaca). Rename them, or build them with prompt_template and "
        "completion_template"
    )


def _of_alpaca(table: Dataset, chat: bool) -> Dataset:
    def convert(row: dict) -> dict[str, Any]:
        task, given, answer = (row.get(name) or "" for name in (*_ALPACA[:1], "input", *_ALPACA[1:]))
        if chat:
            asked = f"{task}\n\n{given}" if given else task
            return {
                "prompt": [{"role": "user", "content": asked}],
                "completion": [{"role": "assistant", "content": answer}],
            }
        parts = {"Instruction": task, "Input": given} if given else {"Instruction": task}
        shown = "".join(f"### {name}:\n{text}\n\n" for name, text in parts.items())
        return {"prompt": f"{shown}### Response:\n", "completion": answer}

    return table.map(convert, remove_columns=table.column_names, desc="Reading instructions")
