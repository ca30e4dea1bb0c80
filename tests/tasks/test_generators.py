"""Every generated task, under a word-level and a subword tokenizer."""

from __future__ import annotations

import random
import subprocess
import sys
from itertools import islice

import pytest
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from eval.word_tokenizer import make_tokenizer
from foresight.common.errors import ConfigError, DataError, UnknownNameError
from foresight.tasks import DATA_TASKS, TASKS, task
from foresight.tasks.columns import PAIR_COLUMNS
from foresight.tasks.examples import split_of
from foresight.tasks.words import WOMEN, known

every_task = pytest.mark.parametrize("name", TASKS)


def test_the_tasks_and_the_closest_name_for_an_unknown_one():
    assert set(TASKS) == {
        "ioi", "greater_than", "docstring", "gender", "boolean", "arithmetic", "reverse", "induction",
        "first", "second", "repeated", "order", "parity", "kind",
    }  # fmt: skip
    with pytest.raises(UnknownNameError, match="did you mean 'greater_than'"):
        task("greater-than")
    assert [task(name).name for name in (*TASKS, *DATA_TASKS)] == [*TASKS, *DATA_TASKS]


@every_task
def test_splits_are_disjoint_and_follow_the_hash(name, tokenizer):
    train = set(task(name).dataset(tokenizer, "train", 200)["prompt"])
    test = set(task(name).dataset(tokenizer, "test", 80)["prompt"])
    assert len(train) == 200 and len(test) == 80  # distinct within a split, too
    assert not train & test
    assert {split_of(p) for p in train} == {"train"} and {split_of(p) for p in test} == {"test"}


@every_task
def test_same_seed_same_rows_other_seed_other_rows(name, word_tokenizer):
    rows = [task(name).contrast(word_tokenizer, "train", 30, seed).to_list() for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


def test_rows_do_not_depend_on_the_process():
    code = (
        "from foresight.tasks import task; from eval.word_tokenizer import make_tokenizer;"
        "print(task('arithmetic').dataset(make_tokenizer(str(n) for n in range(100)), 'test', 5)['prompt'][:])"
    )
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(outputs) == 1


@every_task
def test_contrast_pairs_have_equal_lengths_and_single_token_answers(name, tokenizer):
    pairs = task(name).contrast(tokenizer, "train", 60)
    assert set(pairs.column_names) == set(PAIR_COLUMNS)
    for row in pairs:
        clean, corrupted = tokenizer(row["clean"])["input_ids"], tokenizer(row["corrupted"])["input_ids"]
        assert len(clean) == len(corrupted) and clean != corrupted
        answers = [tokenizer(row["clean"] + row[key])["input_ids"] for key in ("answer", "wrong_answer")]
        assert all(ids[:-1] == clean for ids in answers) and answers[0] != answers[1]
        # the answer is one token by itself too, and the same one
        alone = [tokenizer(row[key], add_special_tokens=False)["input_ids"] for key in ("answer", "wrong_answer")]
        assert alone == [ids[-1:] for ids in answers]


@every_task
def test_the_answer_is_the_first_token_of_the_completion(name, tokenizer):
    for example in task(name).examples(tokenizer, "train", 20):
        prompt = tokenizer(example.prompt)["input_ids"]
        whole = tokenizer(example.prompt + example.completion)["input_ids"]
        answered = tokenizer(example.prompt + example.answer)["input_ids"]
        assert whole[: len(answered)] == answered and len(answered) == len(prompt) + 1


@every_task
def test_the_metric_takes_the_answer_and_refuses_the_wrong_one(name, word_tokenizer):
    chosen = task(name)
    for example in chosen.examples(word_tokenizer, "test", 50):
        assert chosen.correct(example.prompt, example.completion, example.completion.strip())
        assert not chosen.correct(example.prompt, example.completion, example.wrong_answer.strip())
        assert not chosen.correct(example.prompt, example.completion, "")


def test_any_later_year_counts_and_no_other():
    correct = task("greater_than").correct
    prompt = "The war lasted from the year 1732 to the year 17"
    assert [correct(prompt, "80", year) for year in ("33", "99", "80")] == [True] * 3
    assert [correct(prompt, "80", year) for year in ("32", "31", "00", "7", "133", "war", "")] == [False] * 7
    with pytest.raises(DataError, match="no starting year"):
        correct("The war was long", "80", "80")


def test_answers_follow_from_the_prompts(word_tokenizer):
    for prompt, completion in _rows("arithmetic", word_tokenizer):
        a, sign, b, _ = prompt.split()
        assert int(completion) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
    for prompt, completion in _rows("reverse", word_tokenizer):
        assert completion.split() == prompt.split()[-2:0:-1]
    for prompt, completion in _rows("induction", word_tokenizer):
        *words, last = prompt.split()[1:]
        at = words.index(last)
        assert words[at + 1 : at + 3] == completion.split() and words.count(last) == 1
    for prompt, completion in _rows("ioi", word_tokenizer):
        assert prompt.count(completion.strip()) == 1
    for prompt, completion in _rows("docstring", word_tokenizer):
        names = prompt.split("self, ")[1].split(")")[0].split(", ")
        assert names[prompt.count(":param ")] == completion.strip()
    for prompt, completion in _rows("boolean", word_tokenizer):
        assert _value(prompt.removeprefix("Value: ").removesuffix(" =").split()) == (completion == " true")


def _rows(name, tokenizer):
    rows = task(name).dataset(tokenizer, "train", 50)
    return zip(rows["prompt"], rows["completion"], strict=True)


def _value(tokens):
    """A second, independent reading of a boolean expression: recursive descent over its words."""

    def operand():
        word = tokens.pop(0)
        if word == "not":
            return not operand()
        if word != "(":
            return {"true": True, "false": False}[word]
        value = _value(tokens)
        assert tokens.pop(0) == ")"
        return value

    left = operand()
    if not tokens or tokens[0] == ")":
        return left
    operator, right = tokens.pop(0), operand()
    return (left and right) if operator == "and" else (left or right)


def test_both_boolean_values_occur(word_tokenizer):
    rng, boolean = random.Random(0), task("boolean")
    answers = [boolean.draw(rng, boolean.word_lists).answer for _ in range(400)]
    assert 0.35 < answers.count(" true") / 400 < 0.65


def test_a_stream_repeats_itself_by_seed(word_tokenizer):
    first, second = (list(islice(task("gender").stream(word_tokenizer, "train", 3), 20)) for _ in range(2))
    assert first == second


def test_bad_requests(word_tokenizer):
    with pytest.raises(ConfigError, match="split 'validation'"):
        task("ioi").dataset(word_tokenizer, "validation", 5)
    with pytest.raises(ConfigError, match="0 examples"):
        task("ioi").dataset(word_tokenizer, "train", 0)
    with pytest.raises(DataError, match="only about .* distinct prompts"):
        task("gender").dataset(word_tokenizer, "test", 100_000)


@every_task
def test_a_tokenizer_without_the_words_is_refused(name):
    with pytest.raises(DataError, match=f"task '{name}'.*use another tokenizer"):
        task(name).dataset(make_tokenizer(["nothing"]), "train", 5)


def split_tokenizer(together: int):
    """A tokenizer that spells a space and every run of at most so many digits by themselves, and other words whole."""
    lists = [words for name in TASKS for words in task(name).word_lists.values()]
    words = {w for given in lists for w in given if not w.isdigit()} | TEMPLATES | set("+-=,:()'?")
    numbers = {f"{n:0{k}d}" for k in range(1, together + 1) for n in range(10**k)}
    vocabulary = ["<unk>", "▁", "\n", *sorted(words | {f"▁{w}" for w in words}), *sorted(numbers)]
    core = Tokenizer(models.WordLevel({word: i for i, word in enumerate(vocabulary)}, unk_token="<unk>"))
    core.normalizer = normalizers.Replace(" ", "▁")
    pattern = f"[0-9]{{1,{together}}}|▁?[A-Za-z_]+|▁?[^A-Za-z0-9_▁\n]|▁|\n"
    core.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")


TEMPLATES = set("The lasted from the year to sort mode true false a".split())
NUMBERS = ("greater_than", "arithmetic", "order", "parity")


@pytest.mark.parametrize("together", [1, 3])
@pytest.mark.parametrize("name", NUMBERS)
def test_tasks_of_numbers_under_a_tokenizer_that_splits_them(name, together):
    """Digit by digit, as SmolLM2, Qwen and Gemma do, and in threes, as Llama 3 does."""
    tokenizer = split_tokenizer(together)
    chosen = task(name)
    assert len(tokenizer(" 1732")["input_ids"]) == {1: 5, 3: 3}[together]
    pairs, rows = chosen.contrast(tokenizer, "train", 200), chosen.dataset(tokenizer, "test", 60)
    for row in pairs:  # contrast() has checked lengths and answers
        clean, corrupted = tokenizer(row["clean"])["input_ids"], tokenizer(row["corrupted"])["input_ids"]
        assert clean != corrupted and tokenizer.unk_token_id not in clean + corrupted
        assert chosen.correct(row["clean"], row["answer"], row["answer"].strip())
        assert not chosen.correct(row["clean"], row["answer"], row["wrong_answer"].strip())
    for prompt, completion in zip(rows["prompt"], rows["completion"], strict=True):
        words = prompt.split()
        if name == "arithmetic":
            a, sign, b, _ = words
            assert int(completion) == (int(a) + int(b) if sign == "+" else int(a) - int(b))
        elif name == "order":
            assert (int(words[1]) < int(words[3])) == (completion == " true")
        elif name == "parity":
            assert (int(words[2]) % 2 == 0) == (completion == " true")
        else:
            assert int(words[-1] + completion) > int(words[-5])


def test_both_signs_occur_where_numbers_are_split():
    prompts = task("arithmetic").dataset(split_tokenizer(1), "train", 60)["prompt"]
    assert 10 <= sum("+" in prompt for prompt in prompts) <= 30


def test_a_task_that_cannot_be_spelled_says_which_can():
    splits = split_tokenizer(1)
    with pytest.raises(DataError, match="task 'arithmetic'.*a task that it can spell: none"):
        task("arithmetic").dataset(make_tokenizer(["nothing"]), "train", 5)
    only = PreTrainedTokenizerFast(tokenizer_object=splits.backend_tokenizer, unk_token="7")  # 7 is unknown
    with pytest.raises(DataError, match="task 'greater_than'.*can spell: ioi, docstring, gender, boolean, arithmetic"):
        task("greater_than").dataset(only, "train", 5)


def test_a_tokenizer_that_begins_with_a_space_of_its_own_knows_the_same_words():
    """Llama 2 spells " Mary" at the start of a text as two tokens, and as one inside it."""
    vocabulary = {word: i for i, word in enumerate(["<unk>", "▁", "▁a", *(f"▁{w}" for w in WOMEN)])}
    core = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    core.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    core.pre_tokenizer = pre_tokenizers.Split(Regex("▁[^▁]*"), "isolated")
    spaced = PreTrainedTokenizerFast(tokenizer_object=core, unk_token="<unk>")
    assert len(spaced(" Mary")["input_ids"]) == 2
    assert known(spaced, [*WOMEN, "Zoe"]) == list(WOMEN)
