import pytest
from datasets import Dataset

from foresight.common.errors import DataError
from foresight.tasks.seen import lost, refuse_new, refuse_unknown
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


def test_rows_with_nothing_to_train_on_are_counted_and_many_are_refused():
    assert lost(100, 100, 64) is None
    assert "1 of 100 training rows are left out" in lost(100, 99, None)
    with pytest.raises(DataError, match=r"6 of 100 .*beyond max_length \(64 tokens\)\. At most 5%"):
        lost(100, 94, 64)


def test_tokens_that_a_template_has_added_are_refused_where_rows_have_them():
    tokenizer, table = tiny_tokenizer(), rows(1, 9)
    refuse_new(table, len(tokenizer), tokenizer)
    tokenizer.add_tokens(["<|turn|>"])
    refuse_new(table, len(tokenizer) - 1, tokenizer)
    table = Dataset.from_dict({"input_ids": [[5, len(tokenizer) - 1]]})
    with pytest.raises(DataError, match=r"have the tokens '<\|turn\|>', which the chat template has added"):
        refuse_new(table, len(tokenizer) - 1, tokenizer)
