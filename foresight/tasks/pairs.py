"""Contrast pairs: their columns, and the check that attribution patching can use them.

A pair is usable under a tokenizer if the clean and corrupted prompts have the same number of tokens, both answers are
exactly one token after the clean prompt, and the two answers differ.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..common.errors import DataError
from .columns import require_columns

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedTokenizerBase

PAIR_COLUMNS = ("clean", "corrupted", "answer", "wrong_answer")


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
