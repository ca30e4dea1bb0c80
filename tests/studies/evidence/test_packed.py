"""A prompt that is run once for all of its answers: everything is as if each answer were run alone."""

import pytest
import torch

from foresight.common.errors import DataError
from foresight.studies.evidence import packed
from foresight.studies.evidence.packed import batches, collate, log_probabilities, pack
from support.tiny import FAMILIES, tiny, tiny_tokenizer

ROWS = [("w3 w4 w5", " w6 w8"), ("w9", " w10"), ("w3 w4 w5", " w11"), ("w3 w4 w5", " w12 w13 w14 w15"), ("w9", " w7")]


def alone(model, tokenizer, prompt, answer):
    """Log-softmax [tokens of the answer, vocabulary] of one text without padding or other answers."""
    ids, n = tokenizer(prompt + answer)["input_ids"], len(answer.split())
    return model(torch.tensor([ids])).logits[0, -n - 1 : -1].log_softmax(-1)


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_answers_do_not_see_each_other(family, eager):
    model, tokenizer = tiny(family), tiny_tokenizer()
    if eager:
        model.set_attn_implementation("eager")
    (packs,) = batches(pack(tokenizer, ROWS))
    assert [one.texts for one in packs] == [[1, 4], [0, 2, 3]]
    batch = collate(packs)
    found = log_probabilities(model, batch)
    for text, row in enumerate(ROWS):
        mine = batch["text"] == text
        assert tokenizer.decode(batch["token"][mine].tolist()) == row[1].strip()
        torch.testing.assert_close(found[mine], alone(model, tokenizer, *row), rtol=1e-4, atol=1e-4)


def test_ends_are_the_last_tokens():
    tokenizer = tiny_tokenizer()
    batch = collate(pack(tokenizer, ROWS))
    for row, position, text in batch["ends"].tolist():
        assert tokenizer.decode(batch["input_ids"][row, position]) == ROWS[text][1].split()[-1]
    assert sorted(batch["ends"][:, 2].tolist()) == list(range(len(ROWS)))


def test_many_answers_take_several_rows_and_batches(monkeypatch):
    monkeypatch.setattr(packed, "ROOM", 8)
    packs = pack(tiny_tokenizer(), [("w3 w4", f" w{i} w{i + 1}") for i in range(5, 15)])
    assert [len(one) for one in packs] == [8, 8, 8, 4] and [i for one in packs for i in one.texts] == list(range(10))
    assert [len(batch) for batch in batches(packs)] == [1, 1, 1, 1]
    (long,) = pack(tiny_tokenizer(), [("w3", " w4" * 20)])
    assert len(long) == 21


def test_an_answer_needs_a_token():
    with pytest.raises(DataError, match="at least one token"):
        pack(tiny_tokenizer(), [("w3", "")])
