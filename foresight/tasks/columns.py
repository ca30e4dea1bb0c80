"""Columns of a table: those that SFTTrainer trains on, how to build them from others, and those of contrast pairs.

A contrast pair is usable under a tokenizer if the clean and corrupted prompts have the same number of tokens, both
answers are exactly one token after the clean prompt, and the two answers differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import Template
from typing import TYPE_CHECKING, Any

from ..common.errors import ConfigError, DataError, did_you_mean
from .conversations import as_conversations

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

PAIR_COLUMNS = ("clean", "corrupted", "answer", "wrong_answer")
_TRAINABLE = (("messages",), ("prompt", "completion"), ("text",))
_ALPACA = ("instruction", "output")
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
    chat: bool = False,
) -> Dataset:
    """Return `table` with the columns that SFTTrainer takes: messages, prompt and completion, or text.

    Without templates the table must be one that `trainable` takes. Templates are ``string.Template`` texts over its
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


def require_columns(found: Sequence[str], wanted: Sequence[str], what: str) -> None:
    """Raise DataError if one of the wanted columns is missing; `what` names the table."""
    for column in wanted:
        if column not in found:
            hint = did_you_mean(column, [name for name in found if name not in wanted])
            raise DataError(
                f"{what}: no column {column!r}{hint}; expected {', '.join(wanted)}, found {', '.join(found)}"
            )


def check_pairs(pairs: Dataset, tokenizer: PreTrainedTokenizerBase) -> None:
    """Raise DataError for the first row of `pairs` that cannot be used; the message gives the reason and the row."""
    require_columns(pairs.column_names, PAIR_COLUMNS, "contrast pairs")
    if len(pairs) == 0:
        raise DataError("contrast pairs are empty; at least one row is needed")
    columns = {column: list(pairs[column]) for column in PAIR_COLUMNS}
    rows = [dict(zip(PAIR_COLUMNS, values, strict=True)) for values in zip(*columns.values(), strict=True)]
    for i, row in enumerate(rows):
        if not all(isinstance(value, str) for value in row.values()):
            raise DataError(f"contrast pair {i} has a value that is not text: {row}")
    encode = lambda texts: tokenizer(texts, add_special_tokens=False)["input_ids"]  # noqa: E731
    clean, corrupted = encode(columns["clean"]), encode(columns["corrupted"])
    right = encode([row["clean"] + row["answer"] for row in rows])
    wrong = encode([row["clean"] + row["wrong_answer"] for row in rows])
    for i, row in enumerate(rows):
        reason = _unusable(clean[i], corrupted[i], right[i], wrong[i], tokenizer)
        if reason:
            raise DataError(f"contrast pair {i} cannot be used: {reason}; the row is {row}")


def _unusable(clean: list, corrupted: list, right: list, wrong: list, tokenizer: PreTrainedTokenizerBase) -> str | None:
    if len(clean) != len(corrupted):
        return f"clean has {len(clean)} tokens and corrupted {len(corrupted)}, expected equal lengths"
    if not clean:
        return "the clean prompt has no tokens"
    for name, both in (("answer", right), ("wrong_answer", wrong)):
        if both[: len(clean)] != clean or len(both) != len(clean) + 1:
            tokens = tokenizer.convert_ids_to_tokens(both[len(clean) :])
            return (
                f"{name} must be exactly one token after the clean prompt, but adds {tokens}"
                " (most tokenizers need the answer to start with a space)"
            )
        if both[-1] == tokenizer.unk_token_id:
            return f"{name} is not in the tokenizer's vocabulary"
    if right[-1] == wrong[-1]:
        return "answer and wrong_answer are the same token"
    return None
