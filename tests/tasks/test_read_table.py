"""Users' files and folders: read as they are, built by templates, refused with the file, line or row."""

from __future__ import annotations

import json

import pytest
from datasets import Dataset, DatasetDict
from transformers import HfArgumentParser
from trl import SFTConfig, TrlParser

from foresight.common.errors import ConfigError, DataError, UnknownNameError
from foresight.tasks.data_config import DataConfig
from foresight.tasks.load_data import load_data
from foresight.tasks.read_table import read_table
from foresight.tasks.trainable import to_training
from support.tiny import tiny_tokenizer

ROWS = [{"sentence": 'a "fine', "label": 1}, {"sentence": "so, so\tdull", "label": 0}, {"sentence": "nan", "label": 1}]
TEMPLATES = dict(
    prompt_template="Review: $sentence\nSentiment:", completion_template=" $label",
    label_map={"0": "negative", "1": "positive"},
)  # fmt: skip


def lines(rows) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.fixture
def table():
    return Dataset.from_list(ROWS)


@pytest.fixture
def write(tmp_path):
    def write(name: str, text: str):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.mark.parametrize("form", ["jsonl", "json", "csv", "parquet", "saved", "saved_splits", "hub_folder"])
def test_every_form_gives_the_same_rows(form, table, tmp_path):
    path = tmp_path / f"data.{form}"
    match form:
        case "jsonl":
            path.write_text(lines(ROWS))
        case "json":
            path.write_text(json.dumps(ROWS))
        case "csv":
            table.to_csv(path)
        case "parquet":
            table.to_parquet(path)
        case "saved":
            table.save_to_disk(path)
        case "saved_splits":
            DatasetDict(train=table).save_to_disk(path)
        case "hub_folder":
            path.mkdir()
            table.to_parquet(path / "train.parquet")
    assert read_table(path).to_list() == ROWS


def test_headerless_tsv_keeps_quotation_marks(write):
    path = write("data.tsv", 'he said " no\t0\n"quoted" and\t1\nNA\t1\n')
    rows = read_table(path, column_names=["sentence", "label"]).to_list()
    assert rows == [
        {"sentence": 'he said " no', "label": 0},
        {"sentence": '"quoted" and', "label": 1},
        {"sentence": "NA", "label": 1},
    ]


def test_sst2(real_data):
    path = real_data("sst2/dev.tsv")
    rows = read_table(path, column_names=["sentence", "label"])
    text = path.read_text(encoding="utf-8").splitlines()
    assert len(rows) == len(text)
    assert [f"{row['sentence']}\t{row['label']}" for row in rows] == text
    config = DataConfig(
        dataset=str(path), dataset_split="train[:50]", eval_dataset_split="train[50:60]",
        column_names=["sentence", "label"], **TEMPLATES,
    )  # fmt: skip
    train, evaluation, pairs = load_data(config, tiny_tokenizer())
    assert (len(train), len(evaluation), pairs) == (50, 10, None)
    sentence, label = text[0].split("\t")
    completion = {"0": " negative", "1": " positive"}[label]
    assert train[0] == {"prompt": f"Review: {sentence}\nSentiment:", "completion": completion}


def test_templates_and_label_map(table):
    built = to_training(table, DataConfig(**TEMPLATES))
    assert built.column_names == ["prompt", "completion"]
    assert built[1] == {"prompt": "Review: so, so\tdull\nSentiment:", "completion": " negative"}
    text = to_training(table, DataConfig(text_template="$sentence costs $$${label}0"))
    assert text[0] == {"text": 'a "fine costs $10'}


@pytest.mark.parametrize(
    "row",
    [
        {"text": "hello"},
        {"prompt": "1 + 1 =", "completion": " 2"},
        {"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}]},
    ],
)
def test_trainable_columns_are_kept_and_others_dropped(row):
    assert to_training(Dataset.from_list([{**row, "id": 7}]), DataConfig()).to_list() == [row]


def test_missing_and_misspelt_columns(table):
    with pytest.raises(DataError, match="sentence, label; expected text, messages, or prompt"):
        to_training(table, DataConfig())
    with pytest.raises(DataError, match="did you mean 'completion'"):
        to_training(Dataset.from_list([{"prompt": "a", "completions": "b"}]), DataConfig())
    with pytest.raises(DataError, match="names the column 'sentense' .did you mean 'sentence'"):
        to_training(table, DataConfig(text_template="$sentense"))
    with pytest.raises(DataError, match="no column 'labels'.*did you mean 'label'"):
        to_training(table, DataConfig(**TEMPLATES, label_column="labels"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"prompt_template": "$sentence"}, "need each other"),
        ({"completion_template": "$label"}, "need each other"),
        ({"text_template": "$sentence", "prompt_template": "$sentence", "completion_template": "$label"}, "choose one"),
        ({"text_template": "$ sentence"}, "stray"),
        ({"text_template": "sentence"}, "names no column"),
        ({"label_map": {"0": "bad"}}, "needs templates"),
    ],
)
def test_templates_that_cannot_work(table, settings, message):
    with pytest.raises(ConfigError, match=message):
        to_training(table, DataConfig(**settings))


def test_unmapped_labels_and_empty_cells_show_the_row(table):
    with pytest.raises(DataError, match="row 1 has label '0', which label_map does not name.*dull"):
        to_training(table, DataConfig(text_template="$label", label_map={"1": "good"}))
    with pytest.raises(DataError, match="row 1 has no value in column 'a'.*'b': 4"):
        to_training(Dataset.from_list([{"a": "x", "b": 3}, {"a": None, "b": 4}]), DataConfig(text_template="$a $b"))
    with pytest.raises(DataError, match="row 1 has no value in column 'text'"):
        to_training(Dataset.from_list([{"text": "x"}, {"text": None}]), DataConfig())


def test_files_that_cannot_be_read(write, tmp_path, table):
    write("train.jsonl", lines(ROWS))
    with pytest.raises(DataError, match="no file or folder .*trian.jsonl.*did you mean 'train.jsonl'"):
        read_table(tmp_path / "trian.jsonl")
    with pytest.raises(DataError, match=r"bad.jsonl, line 3: not valid JSON"):
        read_table(write("bad.jsonl", lines(ROWS[:2]) + '{"sentence": "x", \n' + lines(ROWS)))
    with pytest.raises(DataError, match="broken.json: cannot be read as json"):
        read_table(write("broken.json", '[{"a": 1}, '))
    with pytest.raises(DataError, match="line 2"):
        read_table(write("uneven.tsv", "a\tb\nc\td\te\n"), column_names=["x", "y"])
    with pytest.raises(DataError, match="the file is empty"):
        read_table(write("empty.jsonl", ""))
    with pytest.raises(DataError, match="empty"):
        read_table(write("header.csv", "prompt,completion\n"))
    with pytest.raises(DataError, match="cannot read '.txt' files"):
        read_table(write("notes.txt", "hello"))
    with pytest.raises(ConfigError, match="for CSV and TSV"):
        read_table(write("plain.jsonl", lines(ROWS)), column_names=["a", "b"])
    with pytest.raises(DataError, match="split 'test'"):
        read_table(tmp_path / "train.jsonl", "test")
    (tmp_path / "damaged.parquet").write_bytes(b"PAR1 this is not parquet PAR1")
    with pytest.raises(DataError, match="damaged.parquet"):
        read_table(tmp_path / "damaged.parquet")
    table.save_to_disk(tmp_path / "saved")
    with pytest.raises(DataError, match="no split 'test'"):
        read_table(tmp_path / "saved", "test")
    DatasetDict(train=table, test=table).save_to_disk(tmp_path / "splits")
    with pytest.raises(DataError, match="no split 'tests' .did you mean 'test'"):
        read_table(tmp_path / "splits", "tests")


def test_a_name_that_is_nothing():
    with pytest.raises(DataError, match="'no-such-data': no such file"):
        read_table("no-such-data")


def test_contrast_files_are_checked(write, word_tokenizer):
    good = {"clean": "12 + 30 =", "corrupted": "12 + 40 =", "answer": " 42", "wrong_answer": " 52"}
    train = write("train.jsonl", lines([{"text": "12 + 30 = 42"}]))
    config = DataConfig(dataset=str(train), contrast=str(write("pairs.jsonl", lines([good]))))
    assert load_data(config, word_tokenizer)[2].to_list() == [good]
    config.contrast = str(write("uneven.jsonl", lines([good, {**good, "corrupted": "12 ="}])))
    with pytest.raises(DataError, match="contrast pair 1 .*clean has 4 tokens and corrupted 2"):
        load_data(config, word_tokenizer)


def test_generated_tasks_by_config(word_tokenizer):
    config = DataConfig(task="reverse", task_examples=20, task_eval_examples=10, task_contrast_examples=5)
    train, evaluation, pairs = load_data(config, word_tokenizer, seed=1)
    assert (len(train), len(evaluation), len(pairs)) == (20, 10, 5)
    assert train.to_list() != load_data(config, word_tokenizer, seed=2)[0].to_list()
    with pytest.raises(UnknownNameError, match="did you mean 'reverse'"):
        load_data(DataConfig(task="revers"), word_tokenizer)
    for config in (DataConfig(), DataConfig(task="reverse", dataset="x.jsonl")):
        with pytest.raises(ConfigError, match="exactly one"):
            load_data(config, word_tokenizer)


def test_settings_parse_beside_sft_config(write):
    recipe = write("recipe.yaml", 'dataset: data.tsv\nlabel_map: {"0": "negative"}\ncolumn_names: [sentence, label]\n')
    arguments = ["--config", str(recipe), "--dataset", "other.tsv", "--output_dir", "out", "--bf16", "false"]
    config, _ = TrlParser((DataConfig, SFTConfig)).parse_args_and_config(arguments)
    assert config.dataset == "other.tsv"
    assert config.labels() == {"0": "negative"} and config.column_names == ["sentence", "label"]
    flags = ["--label_map", '{"1": "good"}', "--column_names", "a", "b"]
    config = HfArgumentParser(DataConfig).parse_args_into_dataclasses(flags)[0]
    assert config.labels() == {"1": "good"} and config.column_names == ["a", "b"]
    for bad in ("{", "[1]"):
        with pytest.raises(ConfigError, match="label_map"):
            DataConfig(label_map=bad)


def test_a_file_name_with_brackets_is_a_name_and_no_pattern(tmp_path):
    path = tmp_path / "rows[1]*.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n')
    (tmp_path / "rows1.jsonl").write_text('{"text": "c"}\n')
    assert read_table(str(path))["text"] == ["a", "b"]
