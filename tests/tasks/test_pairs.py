"""Contrast pairs that cannot be used are shown with their row and the reason."""

from __future__ import annotations

import pytest
from datasets import Dataset

from foresight.common.errors import DataError
from foresight.tasks.columns import check_pairs

GOOD = {"clean": "Sequence: gold iron moon gold", "corrupted": "Sequence: gold lake moon gold",
        "answer": " iron", "wrong_answer": " lake"}  # fmt: skip


def table(**changes):
    return Dataset.from_list([GOOD, {**GOOD, **changes}])


def test_good_pairs_pass(word_tokenizer):
    check_pairs(table(), word_tokenizer)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"corrupted": "Sequence: gold lake gold"}, "clean has 6 tokens and corrupted 5"),
        ({"clean": "", "corrupted": ""}, "no tokens"),
        ({"answer": " iron moon"}, "answer must be exactly one token.*'iron', 'moon'"),
        ({"wrong_answer": ""}, "wrong_answer must be exactly one token"),
        ({"answer": " zebra"}, "answer is not in the tokenizer's vocabulary"),
        ({"wrong_answer": " iron"}, "the same token"),
        ({"answer": None}, "not text"),
    ],
)
def test_an_unusable_row_is_shown(word_tokenizer, changes, message):
    with pytest.raises(DataError, match=f"(?s)contrast pair 1 .*{message}") as error:
        check_pairs(table(**changes), word_tokenizer)
    assert GOOD["clean"] in str(error.value) or "clean" in changes


def test_the_leading_space_matters_to_a_subword_tokenizer(tokenizer):
    pairs = Dataset.from_list(
        [{"clean": "12 + 30 =", "corrupted": "12 + 40 =", "answer": " zyzzyva", "wrong_answer": " 52"}]
    )
    with pytest.raises(DataError, match="answer"):
        check_pairs(pairs, tokenizer)


def test_missing_columns_and_empty_tables(word_tokenizer):
    with pytest.raises(DataError, match="no column 'wrong_answer' .did you mean 'wrong'"):
        check_pairs(table().rename_column("wrong_answer", "wrong"), word_tokenizer)
    with pytest.raises(DataError, match="empty"):
        check_pairs(table().select([]), word_tokenizer)
