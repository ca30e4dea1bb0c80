"""Columns of a table: those that are required, and those of contrast pairs.

A contrast pair is usable under a tokenizer if the clean and corrupted prompts have the same number of tokens, both
answers are exactly one token after the clean prompt, and the two answers differ.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..common.errors import DataError, did_you_mean

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

PAIR_COLUMNS = ("clean", "corrupted", "answer", "wrong_answer")


def require_columns(found: Sequence[str], wanted: Sequence[str], what: str) -> None:
    """Raise DataError if one of the wanted columns is missing; `what` names the table."""
    for column in wanted:
        if column not in found:
            hint = did_you_mean(column, [name for name in found if name not in wanted])
            raise DataError(
                f"{what}: no column {column!r}{hint}; expected {', '.join(wanted)}, found {', '.join(found)}"
            )


def check_pairs(pairs: Dataset, tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """Return the token of every answer and of every wrong answer.

    Raises:
        DataError: for the first row that cannot be used; the message gives the reason and the row.
    """
    require_columns(pairs.column_names, PAIR_COLUMNS, "contrast pairs")
    if len(pairs) == 0:
        raise DataError("contrast pairs are empty; at least one row is needed")
    rows = pairs.select_columns(list(PAIR_COLUMNS)).to_list()
    for i, row in enumerate(rows):
        if not all(isinstance(value, str) for value in row.values()):
            raise DataError(f"contrast pair {i} has a value that is not text: {row}")
    clean, corrupted = (plain_ids(tokenizer, [row[column] for row in rows]) for column in ("clean", "corrupted"))
    whole = ([row["clean"] + row[column] for row in rows] for column in ("answer", "wrong_answer"))
    right, wrong = (plain_ids(tokenizer, texts) for texts in whole)
    for i, row in enumerate(rows):
        if reason := _unusable(clean[i], corrupted[i], right[i], wrong[i], tokenizer):
            raise DataError(f"contrast pair {i} cannot be used: {reason}; the row is {row}")
    return [ids[-1] for ids in right], [ids[-1] for ids in wrong]


def plain_ids(tokenizer: PreTrainedTokenizerBase, texts: list[str]) -> list[list[int]]:
    """Token ids of each text, without special tokens."""
    return tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []


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
