import csv
import json

import pytest

from foresight.common.errors import DataError
from foresight.model.loading import load_tokenizer
from foresight.model.model_config import ModelConfig
from foresight.model.shipped import model_path
from foresight.studies.evidence.preferences import TRUTHFULQA, Question, inverted, load_behaviour
from support.tiny import tiny_tokenizer

SIZES = {"train": 6, "validation": 3, "test": 4}


@pytest.fixture(scope="module")
def tokenizer():
    return load_tokenizer(ModelConfig(str(model_path())))


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def pairs_of(n):
    return [{"prompt": f"w{i} w{i + 1}", "chosen": " w7", "rejected": " w9"} for i in range(3, 3 + n)]


def prompts(part):
    return {question.prompt for question in part}


def test_generated_behaviour_has_disjoint_parts_and_a_fixed_test_part(tokenizer):
    found = [load_behaviour("ioi", tokenizer, SIZES, seed) for seed in (0, 0, 1)]
    assert found[0].train == found[1].train != found[2].train
    assert found[0].test == found[2].test
    for behaviour in found:
        assert [len(part) for part in (behaviour.train, behaviour.validation, behaviour.test)] == [6, 3, 4]
        assert not prompts(behaviour.train) & (prompts(behaviour.validation) | prompts(behaviour.test))
        assert behaviour.pairs["clean"] == [question.prompt for question in behaviour.train]


def test_a_file_is_split_by_its_prompts(tmp_path):
    path = write(tmp_path / "own.jsonl", [*pairs_of(40), *pairs_of(40)])
    behaviour = load_behaviour(path, tiny_tokenizer(), {"train": 99, "validation": 99, "test": 99})
    parts = [prompts(part) for part in (behaviour.train, behaviour.validation, behaviour.test)]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40
    assert behaviour.pairs is None


def test_rows_of_one_prompt_are_one_question(tmp_path):
    rows = [{"prompt": "w3", "chosen": c, "rejected": r} for c, r in ((" w4", " w5"), (" w6", " w5"), (" w4", " w7"))]
    for part in ("train", "val", "test"):
        write(tmp_path / f"{part}.jsonl", [row | {"prompt": part} for row in rows])
    behaviour = load_behaviour(str(tmp_path), tiny_tokenizer(), SIZES)
    assert behaviour.validation == (Question("val", (" w4", " w6"), (" w5", " w7")),)
    turned = inverted(behaviour).train[0]
    assert (turned.right, turned.wrong) == (behaviour.train[0].wrong, behaviour.train[0].right)


def test_training_questions_that_are_test_questions_are_left_out(tmp_path):
    for part, n in (("train", 5), ("validation", 1), ("test", 3)):
        write(tmp_path / f"{part}.jsonl", pairs_of(n))
    behaviour = load_behaviour(str(tmp_path), tiny_tokenizer(), SIZES)
    assert prompts(behaviour.train) == {"w6 w7", "w7 w8"}


def test_contrast_pairs_of_a_file_are_those_of_the_training_part(tmp_path):
    rows = [
        {"clean": f"w{i} w3", "corrupted": f"w{i} w4", "answer": " w5", "wrong_answer": " w6"} for i in range(3, 40)
    ]
    behaviour = load_behaviour(write(tmp_path / "own.jsonl", rows), tiny_tokenizer(), SIZES | {"train": 99})
    assert set(behaviour.pairs["clean"]) == prompts(behaviour.train)


def test_truthfulqa_is_read_by_its_columns(tmp_path):
    """Synthetic rows in the layout of TruthfulQA.csv."""
    rows = [("Is one more than two?", "No", "No; One is less than two; ", "Yes; It depends")]
    for part in ("train", "val", "test"):
        with (tmp_path / f"{part}.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["Type", *TRUTHFULQA, "Source"])
            writer.writerows([("x", row[0].replace("two", part), *row[1:], "y") for row in rows])
    behaviour = load_behaviour(str(tmp_path), tiny_tokenizer(), SIZES)
    right, wrong = (" No", " One is less than two"), (" Yes", " It depends")
    assert behaviour.test == (Question("Q: Is one more than test?\nA:", right, wrong),)


@pytest.mark.parametrize(
    "rows, match",
    [
        ([{"prompt": "w3", "choosen": " w4", "rejected": " w5"}], "expected prompt, chosen, rejected"),
        ([{"prompt": "w3", "chosen": " w4", "rejected": " w4"}], "row 0.*differ"),
        ([{"prompt": "w3", "chosen": " w4", "rejected": ""}], "row 0"),
        ([{"prompt": "w3", "chosen": " w4", "rejected": " w5"}], "no question in the part"),
    ],
)
def test_unusable_rows_are_named(tmp_path, rows, match):
    with pytest.raises(DataError, match=match):
        load_behaviour(write(tmp_path / "own.jsonl", rows), tiny_tokenizer(), SIZES)


def test_a_folder_without_a_part_is_refused(tmp_path):
    write(tmp_path / "train.jsonl", pairs_of(3))
    with pytest.raises(DataError, match="validation or val"):
        load_behaviour(str(tmp_path), tiny_tokenizer(), SIZES)
