"""Every data task, from local folders in the hub's format, under word-level, SentencePiece-like and byte-level
tokenizers; SST-2 also with the real data."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from eval.word_tokenizer import make_tokenizer
from foresight.cli import main
from foresight.common.errors import ConfigError, DataError, UnknownNameError
from foresight.scoring.probes import ContrastProbe
from foresight.tasks import DATA_TASKS, TASKS, task
from foresight.tasks.data_config import DataConfig
from foresight.tasks.examples import split_of
from foresight.tasks.load_data import load_data
from foresight.tasks.pairing import Row, pair
from foresight.tasks.read_table import Source
from support.tiny import tiny

FOLDERS = Path(__file__).parent / "data"
ANSWERS = {
    "openbookqa": {" A", " B", " C", " D"}, "rte": {" True", " False"}, "sst2": {" negative", " positive"},
    "winogrande": {" A", " B"}, "fever": {" True", " False"}, "sentiment": {" negative", " neutral", " positive"},
}  # fmt: skip
every_task = pytest.mark.parametrize("name", DATA_TASKS)


@cache
def local(name: str):
    """The task over its local folder; read once."""
    return task(name, str(FOLDERS / name))


SIZES = {
    (name, split): len((FOLDERS / name / f"{file}.jsonl").read_text().splitlines())
    for name in DATA_TASKS
    for split, file in (("train", "train"), ("test", "validation"))
}


def rows_of(name: str, split: str):
    """All rows of a local table; making them needs no tokenizer."""
    return local(name).dataset(None, split, SIZES[name, split])


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [row["prompt"] + row["completion"] for name, split in SIZES for row in rows_of(name, split)]


@pytest.fixture(scope="session")
def words(texts):
    pieces = pre_tokenizers.Whitespace()
    return make_tokenizer(word for text in texts for word, _ in pieces.pre_tokenize_str(text))


@pytest.fixture(scope="session", params=["words", "sentencepiece", "pythia"])
def tokenizer(request, texts):
    """Shadows the fixture of the generated tasks: other words, and one family more."""
    if request.param == "words":
        return request.getfixturevalue("words")
    if request.param == "sentencepiece":  # a space belongs to the word after it and is lost when a token is decoded
        core = Tokenizer(models.BPE())
        core.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Split("\n", "isolated")]
        )
        core.decoder = decoders.Metaspace()
        core.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=1500, special_tokens=["<s>"]))
        return PreTrainedTokenizerFast(tokenizer_object=core, bos_token="<s>")
    return request.getfixturevalue("pythia")


@pytest.fixture(scope="session")
def pythia(real_data):
    return AutoTokenizer.from_pretrained(real_data("pythia-tokenizer"))


@pytest.fixture(scope="session")
def real_sst2(real_data) -> Source:
    folder = real_data("sst2")
    return Source(str(folder / "train.tsv"), test_path=str(folder / "dev.tsv"), column_names=("sentence", "label"))


def check(rows, tokenizer):
    """Equal lengths, different prompts, answers of one token each that differ; and scoring takes the rows."""
    texts = [
        [row["clean"], row["corrupted"], *(row["clean"] + row[k] for k in ("answer", "wrong_answer"))] for row in rows
    ]
    ids = iter(tokenizer([text for row in texts for text in row], add_special_tokens=False)["input_ids"])
    for clean, corrupted, right, wrong in zip(ids, ids, ids, ids, strict=True):
        assert len(clean) == len(corrupted) and clean != corrupted
        assert right[:-1] == wrong[:-1] == clean and right[-1] != wrong[-1]
    assert ContrastProbe.from_dataset(rows, tokenizer, batch_size=8).n_examples == len(rows)


def test_fifteen_tasks_and_the_closest_name_for_an_unknown_one():
    assert set(DATA_TASKS) == {*ANSWERS, "zsre"} and not set(TASKS) & set(DATA_TASKS)
    with pytest.raises(UnknownNameError, match="did you mean 'winogrande'"):
        task("winograd")
    with pytest.raises(ConfigError, match="'ioi' is generated"):
        task("ioi", "folder")
    assert {task(name).source.path.count("/") for name in DATA_TASKS} == {1}  # hub names, not read yet


@every_task
def test_pairs_can_be_scored(name, tokenizer):
    pairs = local(name).contrast(tokenizer, "train", 10)
    assert len(set(pairs["clean"])) == 10
    check(pairs, tokenizer)
    if name in ANSWERS:
        assert {*pairs["answer"], *pairs["wrong_answer"]} <= ANSWERS[name]


@every_task
def test_a_pair_is_two_rows_of_its_split_or_one_with_parts_exchanged(name, tokenizer):
    completions = {row["prompt"]: row["completion"] for row in rows_of(name, "train")}
    for example in local(name).examples(tokenizer, "train", 10):
        assert completions[example.prompt] == example.completion
        assert example.completion.startswith(example.answer)
        if name in ("openbookqa", "winogrande"):
            clean, corrupted = example.prompt.splitlines(), example.corrupted.splitlines()
            moved = [(a, b) for a, b in zip(clean, corrupted, strict=True) if a != b]
            assert len(moved) == 2
            right = next(line[3:] for line in clean if line.startswith(f"{example.answer.strip()}. "))
            assert next(line[3:] for line in corrupted if line.startswith(f"{example.wrong_answer.strip()}. ")) == right
        else:
            assert completions[example.corrupted].startswith(example.wrong_answer)


def test_zsre_contrasts_the_first_token_within_a_relation(tokenizer):
    examples = local("zsre").examples(tokenizer, "train", 15)
    for example in examples:
        assert example.prompt.split("\n")[1] == example.corrupted.split("\n")[1]
    assert any(example.answer != example.completion for example in examples)


@every_task
def test_splits_are_disjoint_and_rows_follow_the_seed(name, tokenizer):
    chosen = local(name)
    train, test = (set(rows_of(name, split)["prompt"]) for split in ("train", "test"))
    assert len(train) == SIZES[name, "train"] and len(test) == SIZES[name, "test"] and not train & test
    assert set(chosen.contrast(tokenizer, "train", 10)["clean"]) < train
    for make in (chosen.dataset, chosen.contrast):
        rows = [make(tokenizer, "train", 10, seed).to_list() for seed in (0, 0, 1)]
        assert rows[0] == rows[1] != rows[2]
    again = task(name, str(FOLDERS / name))
    assert again.contrast(tokenizer, "train", 10).to_list() == chosen.contrast(tokenizer, "train", 10).to_list()


@every_task
def test_the_metric_takes_the_answer_and_refuses_another(name, tokenizer):
    chosen = local(name)
    for example in chosen.examples(tokenizer, "train", 10):
        assert chosen.correct(example.prompt, example.completion, example.completion.strip())
        assert not chosen.correct(example.prompt, example.completion, example.wrong_answer.strip())


def test_a_single_file_is_divided_by_the_hash_of_the_prompt(tmp_path, pythia):
    shutil.copy(FOLDERS / "sentiment" / "train.jsonl", tmp_path / "all.jsonl")
    one = task("sentiment", str(tmp_path / "all.jsonl"))
    for split in ("train", "test"):
        assert {split_of(prompt) for prompt in one.dataset(pythia, split, 3)["prompt"]} == {split}


def test_a_prompt_in_both_tables_is_a_test_prompt(tmp_path, pythia, caplog):
    """And repeated or empty rows are left out, with a warning that counts them."""
    source = FOLDERS / "sst2"
    train, test = ((source / f"{split}.jsonl").read_text() for split in ("train", "validation"))
    empty = json.dumps({"sentence": " ", "label": 1}) + "\n"
    (tmp_path / "train.jsonl").write_text(train + test + train.splitlines(keepends=True)[0] + empty)
    (tmp_path / "validation.jsonl").write_text(test)
    leaky = task("sst2", str(tmp_path))
    n = len(train.splitlines())
    assert leaky.dataset(pythia, "train", n).to_list() == local("sst2").dataset(pythia, "train", n).to_list()
    assert f"2 of {n + len(test.splitlines()) + 2} rows of {tmp_path} are left out" in caplog.text
    with pytest.raises(DataError, match=f"{n + 1} train examples asked for, but .* has {n} different"):
        leaky.dataset(pythia, "train", n + 1)


def test_rows_without_a_partner_are_left_out_and_counted(pythia, tmp_path, caplog):
    rows = [{"text": text, "label": label} for label, text in enumerate(["so sad", "an hour", "so good"])]
    rows += [{"text": f"{'very ' * n}good", "label": 2} for n in range(2, 12)]  # no other label at these lengths
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = Source(str(tmp_path / "rows.jsonl"), test_path=str(FOLDERS / "sentiment" / "validation.jsonl"))
    chosen = task("sentiment", source)
    check(chosen.contrast(pythia, "train", 3), pythia)
    assert "10 of 13 train rows have no corrupted prompt" in caplog.text
    with pytest.raises(DataError, match="4 train pairs asked for, but only 3 of 13 rows .* equal token length"):
        chosen.contrast(pythia, "train", 4)
    assert len(chosen.dataset(pythia, "train", 13)) == 13  # training takes them all


def test_partners_of_rows_with_many_equal_answers(pythia):
    rows = [Row(f"Item {n} is", " good" if n % 7 else " bad") for n in range(100, 200)]
    examples = pair("x", rows, pythia, one_token=True)
    assert [example.prompt for example in examples] == [row.prompt for row in rows]
    assert all(example.answer != example.wrong_answer for example in examples)
    assert not pair("x", [row for row in rows if row.completion == " good"], pythia, one_token=True)
    assert not pair("x", rows[:1], pythia, one_token=True) and not pair("x", [], pythia, one_token=True)


def test_answers_that_are_no_single_token_are_shown(texts):
    unknown = make_tokenizer(["Review", "Sentiment", ":", "negative"])
    with pytest.raises(DataError, match=r"task 'sst2': the answer ' positive' is \['<unk>'\]"):
        local("sst2").contrast(unknown, "train", 3)


def test_other_words_for_the_labels(pythia):
    with pytest.raises(DataError, match=r"' zyzzyva' is \['Ġz', .*expected one known token; give other words with lab"):
        task("sst2", str(FOLDERS / "sst2"), {"0": "zyzzyva", "1": "good"}).contrast(pythia, "train", 3)
    pairs = task("sst2", str(FOLDERS / "sst2"), {"0": "bad", "1": "good"}).contrast(pythia, "train", 10)
    assert set(pairs["answer"]) == {" bad", " good"}
    lettered = task("winogrande", str(FOLDERS / "winogrande"), {"1": "X", "2": "Y"}).contrast(pythia, "train", 10)
    assert "\nX. " in lettered["clean"][0] and set(lettered["answer"]) == {" X", " Y"}
    for labels in ({"0": "bad"}, {"0": "bad", "1": "bad"}, {"no": "bad", "yes": "good"}):
        with pytest.raises(ConfigError, match="task 'sst2': labels .* expected different words for 0, 1"):
            task("sst2", labels=labels)
    with pytest.raises(ConfigError, match="its answers are names"):
        task("zsre", labels={"a": "b"})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("sst2", {"sentence": ...}, "no column 'sentence' .did you mean 'sentences'.*found .*label, sentences"),
        ("rte", {"label": -1}, "row 0 of .*the label is -1, expected one of 0, 1"),
        ("sentiment", {"text": None}, "row 0 of .*text is None, expected a text"),
        ("openbookqa", {"answerKey": "E"}, "the label is 'E', expected one of A, B, C, D"),
        ("openbookqa", {"choices": {"text": ["a"], "label": ["A"]}}, "choices is .*expected .*four texts"),
        ("winogrande", {"answer": "3"}, "the label is '3', expected one of 1, 2"),
        ("fever", {"output": [{"answer": "NOT ENOUGH INFO"}]}, "the label is 'NOT ENOUGH INFO'"),
        ("fever", {"output": "SUPPORTS"}, "output is 'SUPPORTS', expected a list"),
        ("zsre", {"input": "Anna Berg, country"}, "input is 'Anna Berg, country', expected 'subject .SEP. relation'"),
    ],
)
def test_tables_of_another_form_are_refused(name, change, message, tmp_path):
    row = json.loads((FOLDERS / name / "train.jsonl").read_text().splitlines()[0])
    for key, value in change.items():
        if value is ...:
            row[f"{key}s"] = row.pop(key)
        else:
            row[key] = value
    (tmp_path / "rows.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(DataError, match=f"(?s)task '{name}'.*{message}"):
        task(name, str(tmp_path / "rows.jsonl")).dataset(None, "train", 1)


def test_bad_requests(pythia):
    chosen = local("rte")
    with pytest.raises(ConfigError, match="split 'validation'"):
        chosen.contrast(pythia, "validation", 5)
    with pytest.raises(ConfigError, match="0 examples"):
        chosen.dataset(pythia, "train", 0)
    with pytest.raises(DataError, match="500 train examples asked for, but .*rte has 21 different"):
        chosen.contrast(pythia, "train", 500)
    with pytest.raises(DataError, match="split 'validation'|Unknown split"):
        task("rte", Source(str(FOLDERS / "rte"), test_split="tset")).dataset(pythia, "train", 1)


def test_real_sst2_gives_many_pairs(real_sst2, pythia):
    chosen = task("sst2", real_sst2)
    pairs = chosen.contrast(pythia, "train", 500)
    check(pairs, pythia)
    share = pairs["answer"][:].count(" positive") / 500
    assert 0.4 < share < 0.6
    check(chosen.contrast(pythia, "test", 300), pythia)
    train, test = (set(chosen.dataset(pythia, split, n)["prompt"]) for split, n in (("train", 6900), ("test", 870)))
    assert len(train) == 6900 and len(test) == 870 and not train & test


def test_settings_of_a_recipe_say_where_a_task_reads(real_sst2, pythia):
    settings = dict(task="sst2", task_examples=20, task_eval_examples=10, task_contrast_examples=5)
    config = DataConfig(
        dataset=real_sst2.path, eval_dataset=real_sst2.test_path, column_names=["sentence", "label"],
        label_map={"0": "bad", "1": "good"}, **settings,
    )  # fmt: skip
    train, test, pairs = load_data(config, pythia, seed=3)
    assert (len(train), len(test), len(pairs)) == (20, 10, 5)
    words = {"0": "bad", "1": "good"}
    assert train.to_list() == task("sst2", real_sst2, words).dataset(pythia, "train", 20, 3).to_list()
    assert test.to_list() == task("sst2", real_sst2, words).dataset(pythia, "test", 10, 3).to_list()
    folder = DataConfig(dataset=str(FOLDERS / "sst2"), **settings)
    assert load_data(folder, pythia)[1].to_list() == local("sst2").dataset(pythia, "test", 10).to_list()
    with pytest.raises(ConfigError, match="prompt_template is set, but the task 'sst2' writes its own prompts"):
        load_data(DataConfig(dataset="x", prompt_template="$a", completion_template="$b", **settings), pythia)
    with pytest.raises(DataError, match="'nyu-mll/glue': no such file"):
        load_data(DataConfig(**settings), pythia)  # the hub is not reachable from tests


def test_train_command_with_a_data_task(tmp_path, words, capsys):
    tiny("llama", vocab_size=len(words)).save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    (tmp_path / "recipe.yaml").write_text(
        f"task: sst2\ndataset: {FOLDERS / 'sst2'}\ntask_examples: 16\ntask_eval_examples: 8\n"
        f"task_contrast_examples: 6\nmodel: {tmp_path / 'model'}\noutput_dir: {tmp_path / 'run'}\nbudget: 0.05\n"
        "scorer: attribution\nmax_steps: 4\nprobe_every: 2\nremask_every: 2\nprobe_examples: 4\nsave_strategy: 'no'\n"
        "per_device_train_batch_size: 4\nuse_cpu: true\nbf16: false\n"
    )
    code = main(["train", "--config", str(tmp_path / "recipe.yaml")])
    captured = capsys.readouterr()
    assert code == 0, captured.err
    assert "evaluation accuracy" in captured.out
