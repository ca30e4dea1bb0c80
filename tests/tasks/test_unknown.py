"""Rows whose words a tokenizer does not know."""

import pytest
from datasets import Dataset

from foresight.common.errors import DataError
from foresight.tasks.unknown import refuse_unknown
from support.tiny import tiny_tokenizer


def rows(unknown, known):
    tokenizer = tiny_tokenizer()
    return Dataset.from_dict({"input_ids": [[tokenizer.unk_token_id] * unknown + [5] * known] * 3})


def test_many_unknown_tokens_are_refused_and_a_few_are_not():
    with pytest.raises(DataError, match=r"10% of the tokens .* reads each as .*; at most 5%"):
        refuse_unknown(rows(1, 9), tiny_tokenizer())
    refuse_unknown(rows(1, 30), tiny_tokenizer())


def test_a_tokenizer_without_unknown_tokens_knows_all():
    tokenizer, table = tiny_tokenizer(), rows(5, 1)
    tokenizer.unk_token = tokenizer.eos_token
    refuse_unknown(table, tokenizer)
    tokenizer.unk_token = None
    refuse_unknown(table, tokenizer)
