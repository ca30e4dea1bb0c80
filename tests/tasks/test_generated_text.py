"""Text of the base model is drawn from its distribution, the same for the same source, and survives its file."""

import json

import pytest
import torch

from foresight.common.errors import DataError
from foresight.tasks.generated_text import TextSource, generate, generate_once, read
from support.tiny import tiny, tiny_tokenizer

TOKENIZER = tiny_tokenizer()
SOURCE = TextSource(rows=40, tokens=6, seed=5)


def test_only_continuations_are_labelled_and_prompts_are_bos_and_an_ordinary_token():
    rows = generate(tiny(), TOKENIZER, SOURCE)
    assert len(rows) == 40 and len({row["input_ids"][1] for row in rows}) > 20
    for row in rows:
        ids, labels = row["input_ids"], row["labels"]
        assert ids[0] == 1 and ids[1] not in TOKENIZER.all_special_ids
        assert labels[:2] == [-100, -100] and labels[2:] == ids[2:] and 3 <= len(ids) <= 8
        assert row["text"] == TOKENIZER.decode(ids)
        assert len(ids) == 8 or ids[-1] == 2
        assert 2 not in ids[2:-1]


def test_a_seed_is_a_text_and_the_process_keeps_its_random_state():
    model = tiny().train()
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = generate(model, TOKENIZER, SOURCE)
    assert torch.equal(torch.rand(3), expected) and torch.random.initial_seed() == 1 and model.training
    torch.rand(7)
    assert generate(model, TOKENIZER, SOURCE) == first
    assert generate(model, TOKENIZER, TextSource(40, 6, seed=6)) != first


def test_tokens_are_drawn_from_the_models_own_distribution():
    model = tiny()
    model.generation_config.update(temperature=0.1, top_k=3, top_p=0.5, repetition_penalty=2.0)  # not to be used
    rows = generate(model, TOKENIZER, TextSource(rows=4000, tokens=1, seed=0, prompts=("<s> w7 w8",)))
    drawn = torch.bincount(torch.tensor([row["input_ids"][-1] for row in rows]), minlength=64) / len(rows)
    with torch.no_grad():
        chances = model(torch.tensor([[1, 7, 8]])).logits[0, -1].softmax(-1)
    spread = (chances * (1 - chances) / len(rows)).sqrt()
    assert ((drawn - chances).abs() < 4.5 * spread + 1e-3).all() and (drawn > 0).sum() > 30


def test_prompts_of_any_length_are_continued_in_turn():
    prompts = ("w3 w4 w5", "w6", "w7 w8")
    rows = generate(tiny(), TOKENIZER, TextSource(5, 4, 0, prompts))
    for i, row in enumerate(rows):
        prompt = TOKENIZER(prompts[i % 3])["input_ids"]
        assert row["input_ids"][: len(prompt)] == prompt and row["labels"][: len(prompt)] == [-100] * len(prompt)
        assert len(row["input_ids"]) > len(prompt)


def test_padding_of_a_batch_does_not_change_what_the_model_sees():
    """Greedy in effect: with one token far ahead of all, short and long prompts continue as they do alone."""
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight.mul_(200)
    together = generate(model, TOKENIZER, TextSource(2, 3, 0, ("w3 w4 w5 w6 w7", "w6")))
    for row, prompt in zip(together, ("w3 w4 w5 w6 w7", "w6"), strict=True):
        assert row == generate(model, TOKENIZER, TextSource(1, 3, 0, (prompt,)))[0]


def test_text_is_written_once_and_read_back(tmp_path):
    path = tmp_path / "run" / "retained.jsonl"
    assert generate_once(tiny(), TOKENIZER, SOURCE, path) > 0
    rows = read(path)
    assert rows == generate(tiny(), TOKENIZER, SOURCE)
    before = path.read_bytes()
    generate_once(tiny(seed=1), TOKENIZER, SOURCE, path)
    assert path.read_bytes() == before


def test_sources_and_models_have_keys_of_their_own():
    keys = {s.key(m) for s in (SOURCE, TextSource(40, 6, 6), TextSource(40, 6, 5, ("w3",))) for m in ("a", "b")}
    assert len(keys) == 6 and SOURCE.key("a") == TextSource(40, 6, 5).key("a")


@pytest.mark.parametrize(
    "line",
    ["{", "[1]", "{}", json.dumps({"input_ids": [1], "labels": [1, 2]}), json.dumps({"input_ids": [], "labels": []}),
     json.dumps({"input_ids": [1.5], "labels": [1]}), json.dumps({"input_ids": 3, "labels": [1]})],
)  # fmt: skip
def test_a_damaged_file_is_named_with_its_line(tmp_path, line):
    path = tmp_path / "retained.jsonl"
    path.write_text(json.dumps({"input_ids": [1], "labels": [1], "text": "x"}) + "\n" + line + "\n")
    with pytest.raises(DataError, match="retained.jsonl, line 2: not a generated row .*delete the file"):
        read(path)
    path.write_text("")
    with pytest.raises(DataError, match="is empty; delete the file"):
        read(path)


def test_prompts_that_cannot_be_continued():
    with pytest.raises(DataError, match="'' has no tokens"):
        generate(tiny(), TOKENIZER, TextSource(2, 4, 0, ("w3", "")))
    with pytest.raises(DataError, match="64 tokens leaves no room"):
        generate(tiny(), TOKENIZER, TextSource(1, 4, 0, ("w3 " * 64,)))
    rows = generate(tiny(), TOKENIZER, TextSource(1, 4, 0, ("w3 " * 62,)))
    assert len(rows[0]["input_ids"]) <= 64
