"""Columns of a table: which it must have, and how to build those that SFTTrainer trains on from others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING

from ..common.errors import ConfigError, DataError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset

_TRAINABLE = (("messages",), ("prompt", "completion"), ("text",))
_COMPANIONS = ("tools", "chat_template_kwargs")  # columns that SFTTrainer reads beside the conversation


def to_training(
    table: Dataset,
    *,
    prompt_template: str | None = None,
    completion_template: str | None = None,
    text_template: str | None = None,
    label_map: Mapping[str, str] | None = None,
    label_column: str = "label",
    source: str = "the dataset",
) -> Dataset:
    """Return `table` with the columns that SFTTrainer takes: messages, prompt and completion, or text.

    Without templates the table must already have one of these sets. Templates are ``string.Template`` texts over its
    columns (``"Review: $sentence\\nSentiment:"`` and ``" $label"``); `label_map` replaces the values of `label_column`
    first.

    Raises:
        DataError: missing columns, an unknown column in a template, a label that is not mapped, or an empty cell.
        ConfigError: templates that exclude one another, need one another, or are malformed.
    """
    if text_template and (prompt_template or completion_template):
        raise ConfigError("text_template excludes prompt_template and completion_template: choose one form")
    if bool(prompt_template) != bool(completion_template):
        raise ConfigError("prompt_template and completion_template need each other: give both, or text_template alone")
    given = {"prompt": prompt_template, "completion": completion_template, "text": text_template}
    templates = {column: text for column, text in given.items() if text}
    if label_map:
        if not templates:
            raise ConfigError("label_map needs templates that use the mapped label")
        table = _map_labels(table, label_map, label_column, source)
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


def require_columns(found: Sequence[str], wanted: Sequence[str], what: str) -> None:
    """Raise DataError if one of the wanted columns is missing; `what` names the table."""
    for column in wanted:
        if column not in found:
            hint = did_you_mean(column, [name for name in found if name not in wanted])
            raise DataError(
                f"{what}: no column {column!r}{hint}; expected {', '.join(wanted)}, found {', '.join(found)}"
            )
