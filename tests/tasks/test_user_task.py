"""Tasks from the user's JSONL files."""

import json

import pytest
from transformers import AutoTokenizer

from foresight.common.errors import DataError
from foresight.model.shipped import model_path
from foresight.tasks import task
from foresight.tasks.examples import split_of
from foresight.tasks.user_task import UserTask


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(model_path(), local_files_only=True)


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def pairs(tokenizer):
    return [row for split in ("train", "test") for row in task("ioi").contrast(tokenizer, split, 20).to_list()]


@pytest.fixture
def texts(tokenizer):
    return [row for split in ("train", "test") for row in task("reverse").dataset(tokenizer, split, 20).to_list()]


def test_pairs_alone_are_a_task(tmp_path, tokenizer, pairs):
    own = task(str(write(tmp_path / "mine.jsonl", pairs)))
    train, test = (own.dataset(tokenizer, split, 100) for split in ("train", "test"))
    assert {*train["prompt"], *test["prompt"]} == {row["clean"] for row in pairs}
    assert all(split_of(prompt) == "test" for prompt in test["prompt"]) and len(test)
    answers = {row["clean"]: row["answer"] for row in pairs}
    assert all(answers[prompt] == completion for prompt, completion in zip(*train[:].values(), strict=True))
    assert set(own.contrast(tokenizer, "train", 8).to_list()[0]) == {"clean", "corrupted", "answer", "wrong_answer"}


def test_texts_alone_have_no_pairs(tmp_path, tokenizer, texts):
    own = UserTask(write(tmp_path / "mine.jsonl", texts))
    assert not own.has_pairs and len(own.dataset(tokenizer, "train", 10)) == 10
    with pytest.raises(DataError, match="gradient_activation"):
        own.contrast(tokenizer, "train", 4)


def test_a_folder_has_files_for_each(tmp_path, tokenizer, texts, pairs):
    write(tmp_path / "train.jsonl", texts)
    write(tmp_path / "test.jsonl", texts[:5])
    write(tmp_path / "contrast.jsonl", pairs)
    own = UserTask(tmp_path)
    held_out = {row["prompt"] for row in texts[:5]}
    assert set(own.dataset(tokenizer, "test", 99)["prompt"]) == held_out
    assert not held_out & set(own.dataset(tokenizer, "train", 99)["prompt"])  # what is held out is never trained on
    assert own.has_pairs and len(own.contrast(tokenizer, "train", 99)) == len(pairs)


def test_the_seed_orders_the_rows(tmp_path, tokenizer, texts):
    own = UserTask(write(tmp_path / "mine.jsonl", texts))
    one, again, other = (own.dataset(tokenizer, "train", 20, seed)["prompt"][:] for seed in (1, 1, 2))
    assert one == again != other


@pytest.mark.parametrize(
    "rows, message",
    [
        ([{"promt": "a", "completion": "b"}], "did you mean 'prompt'"),
        ([{"prompt": "a", "completion": "b"}, {"prompt": "a", "completion": None}], "row 1: completion is None"),
        ([{"prompt": "a", "completion": ""}], "row 0: completion is ''"),
    ],
)
def test_unusable_rows_are_named(tmp_path, rows, message):
    with pytest.raises(DataError, match=message):
        UserTask(write(tmp_path / "mine.jsonl", rows))


def test_one_split_without_rows_is_refused(tmp_path, tokenizer, texts):
    rows = [row for row in texts if split_of(row["prompt"]) == "train"]
    with pytest.raises(DataError, match=r"train.jsonl and test.jsonl"):
        UserTask(write(tmp_path / "mine.jsonl", rows)).dataset(tokenizer, "test", 4)
