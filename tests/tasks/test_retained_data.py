"""Retained data as settings: a task, a file, or none."""

import json

import pytest

from foresight.common.errors import DataError
from foresight.model.shipped import model_path
from foresight.tasks.data_config import DataConfig
from foresight.tasks.load_data import load_retained


@pytest.fixture(scope="module")
def tokenizer():
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(model_path(), local_files_only=True)


def test_a_task_a_file_or_nothing(tokenizer, tmp_path):
    assert load_retained(DataConfig(task="ioi"), tokenizer) is None
    task = load_retained(DataConfig(task="ioi", retained="gender", task_examples=20), tokenizer, seed=1)
    assert task.column_names == ["prompt", "completion"] and len(task) == 20
    path = tmp_path / "kept.jsonl"
    path.write_text("".join(json.dumps({"text": f"row {i}"}) + "\n" for i in range(5)))
    config = DataConfig(task="ioi", retained=str(path), retained_split="train[:3]")
    assert load_retained(config, tokenizer)["text"] == ["row 0", "row 1", "row 2"]


def test_generated_rows_of_another_run_can_be_given(tokenizer, tmp_path):
    path = tmp_path / "retained-abc.jsonl"
    rows = [{"input_ids": [1, 5, 6], "labels": [-100, 5, 6], "text": "a b"}] * 3
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = load_retained(DataConfig(task="ioi", retained=str(path)), tokenizer)
    assert found[0]["input_ids"] == [1, 5, 6] and found[0]["labels"] == [-100, 5, 6]


def test_what_is_not_there(tokenizer):
    with pytest.raises(DataError, match="no file or folder 'kept.jsonl'"):
        load_retained(DataConfig(task="ioi", retained="kept.jsonl"), tokenizer)
