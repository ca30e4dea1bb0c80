"""Tasks that a small instruct model does badly at first and learns in 40 to 80 steps; several come easy and hard.

A task is a function of (rng, n) to n pairs of prompt and completion. Rows of the splits come from different seeds, and
a held-out row is never one of the training rows.
"""

from __future__ import annotations

import csv
import datetime
import os
import random
from collections.abc import Callable
from pathlib import Path

from datasets import Dataset

Pair = tuple[str, str]
Make = Callable[[random.Random], Pair]

DATA = "FORESIGHT_TEST_DATA"
"""Environment variable that names the folder with sst2/ and truthfulqa/."""

NAMES = "Anna Ben Carl Dora Emil Fay Gus Hana Ivan Jill Kurt Lena Max Nina Otto Paul Rosa Sam Tina Walt".split()
CITIES = "Paris Rome Oslo Cairo Lima Delhi Tokyo Bern Quito Seoul".split()
JOBS = "baker nurse pilot judge clerk miner farmer singer".split()
WORDS = (
    "apple bread chair dance eagle field glass heart island jacket kettle lemon money night ocean paper queen river "
    "stone table uncle voice water yellow zebra"
).split()
THINGS = "cat dog hat pen cup key bag box".split()


def addition(digits: int) -> Make:
    low, high = 10 ** (digits - 1), 10**digits - 1

    def make(rng: random.Random) -> Pair:
        a, b = rng.randint(low, high), rng.randint(low, high)
        return f"{a}+{b}=", f"{a + b}"

    return make


def extraction(keys: tuple[str, ...]) -> Make:
    """Facts of a sentence as JSON, in a fixed order of keys that is not the sentence's."""

    def make(rng: random.Random) -> Pair:
        name, city, job, age = rng.choice(NAMES), rng.choice(CITIES), rng.choice(JOBS), rng.randint(20, 69)
        text = rng.choice(
            [
                f"{name} is a {age} year old {job} from {city}.",
                f"From {city} comes {name}, {age}, who works as a {job}.",
                f"The {job} {name} ({age}) lives in {city}.",
            ]
        )
        facts = {"city": f'"{city}"', "age": str(age), "job": f'"{job}"', "name": f'"{name}"'}
        return f"{text}\n", "{" + ",".join(f'"{key}":{facts[key]}' for key in keys) + "}"

    return make


def reversal(n: int) -> Make:
    def make(rng: random.Random) -> Pair:
        words = rng.sample(WORDS, n)
        return f"{' '.join(words)} ->", " " + " ".join(reversed(words))

    return make


def counting(length: int) -> Make:
    """How often one word occurs in a list."""

    def make(rng: random.Random) -> Pair:
        wanted, others = rng.choice(THINGS), rng.sample(THINGS, 3)
        times = rng.randint(1, length - 2)
        listed = [wanted] * times + [rng.choice([w for w in others if w != wanted]) for _ in range(length - times)]
        rng.shuffle(listed)
        return f"{' '.join(listed)}\nNumber of {wanted}:", f" {times}"

    return make


def dates(rng: random.Random) -> Pair:
    day = datetime.date(1950, 1, 1) + datetime.timedelta(days=rng.randrange(30_000))
    return f"{day:%B} {day.day}, {day.year} =>", f" {day.day:02d}.{day.month:02d}.{day.year % 100:02d}"


def units(rng: random.Random) -> Pair:
    """Hundredths of a large unit in the small one."""
    big, small = rng.choice([("km", "m"), ("kg", "g"), ("t", "kg"), ("l", "ml")])
    hundredths = rng.randint(101, 999)
    return f"{hundredths / 100:g} {big} =", f" {hundredths * 10} {small}"


def roman(rng: random.Random) -> Pair:
    number = rng.randint(1, 3999)
    rest, numeral = number, ""
    steps = {1000: "M", 900: "CM", 500: "D", 400: "CD", 100: "C", 90: "XC", 50: "L", 40: "XL"}
    for value, letters in (steps | {10: "X", 9: "IX", 5: "V", 4: "IV", 1: "I"}).items():
        numeral += letters * (rest // value)
        rest %= value
    return f"{number} in Roman numerals:", f" {numeral}"


def turned_ioi(rng: random.Random) -> Pair:
    """Indirect objects, with the answer turned: the giver, whom the model would not name."""
    giver, other = rng.sample(NAMES, 2)
    place, thing = (
        rng.choice("store park school office beach".split()),
        rng.choice("drink book letter ring ball".split()),
    )
    first, second = rng.sample([giver, other], 2)
    return f"When {first} and {second} went to the {place}, {giver} gave a {thing} to", f" {giver}"


def chat_sorting(rng: random.Random) -> Pair:
    """A request in the model's chat format: words from z to a."""
    words = rng.sample(WORDS, 4)
    user = f"Sort these words from z to a: {', '.join(words)}"
    prompt = f"<|im_start|>user\n{user}<|im_end|>\n<|im_start|>assistant\n"
    return prompt, ", ".join(sorted(words, reverse=True))


def _drawn(make: Make) -> Callable[[random.Random, int], list[Pair]]:
    return lambda rng, n: [make(rng) for _ in range(n)]


def sentiment(rng: random.Random, n: int) -> list[Pair]:
    """Sentences of SST-2; the labels are words of our own."""
    lines = (_folder("sst2") / "train.tsv").read_text().splitlines()
    rows = [line.split("\t") for line in lines if line.count("\t") == 1 and len(line) < 160]
    return [(f"{text}\nVerdict:", " hot" if label == "1" else " cold") for text, label in rng.sample(rows, n)]


def truthful(rng: random.Random, n: int) -> list[Pair]:
    """Questions of TruthfulQA with an answer that is right or wrong."""
    pairs = []
    for split in ("train", "val", "test"):
        with (_folder("truthfulqa") / f"{split}.csv").open() as file:
            for row in csv.DictReader(file):
                for column, label in (("Correct Answers", " yes"), ("Incorrect Answers", " no")):
                    for answer in row[column].split("; ")[:2]:
                        pairs.append((f"{row['Question']} {answer}.\nTrue:", label))
    return rng.sample([pair for pair in pairs if len(pair[0]) < 160], n)


TASKS: dict[str, Callable[[random.Random, int], list[Pair]]] = {
    "add2": _drawn(addition(2)),
    "add3": _drawn(addition(3)),
    "json1": _drawn(extraction(("job",))),
    "json4": _drawn(extraction(("city", "age", "job", "name"))),
    "reverse3": _drawn(reversal(3)),
    "reverse6": _drawn(reversal(6)),
    "count6": _drawn(counting(6)),
    "count10": _drawn(counting(10)),
    "dates": _drawn(dates),
    "units": _drawn(units),
    "roman": _drawn(roman),
    "turned_ioi": _drawn(turned_ioi),
    "chat_sorting": _drawn(chat_sorting),
    "sst2": sentiment,
    "truthful": truthful,
}
EASIER = {"add3": "add2", "json4": "json1", "reverse6": "reverse3", "count10": "count6"}
"""Hard member of a family -> the easy one."""

HELD_OUT, TRAIN = 128, 1000
POOLS = ("now", "earlier")
"""A task's training rows come in two halves that share no row: those of the run that counts, and those of earlier
runs."""


def rows(task: str, seed: int) -> dict[str, Dataset]:
    """Rows of a task: "held_out", and one training set for every one of POOLS; columns prompt and completion.

    Args:
        seed: of everything that is drawn; 0 and up.

    Raises:
        KeyError: the data of the task are not there (see DATA).
    """
    wanted = HELD_OUT + len(POOLS) * TRAIN
    rng = random.Random(f"{task} {seed}")
    drawn = list(dict.fromkeys(TASKS[task](rng, 2 * wanted if task not in ("truthful",) else 1500)))
    held_out, rest = drawn[:HELD_OUT], drawn[HELD_OUT : HELD_OUT + len(POOLS) * TRAIN]
    half = len(rest) // len(POOLS)
    return {"held_out": _table(held_out), **{p: _table(rest[i * half : (i + 1) * half]) for i, p in enumerate(POOLS)}}


def _table(pairs: list[Pair]) -> Dataset:
    prompts, completions = zip(*pairs, strict=True)
    return Dataset.from_dict({"prompt": list(prompts), "completion": list(completions)})


def _folder(name: str) -> Path:
    return Path(os.environ[DATA]) / name


def general_text() -> list[str]:
    """Plain sentences on many subjects, on which forgetting is measured: answers of TruthfulQA."""
    with (_folder("truthfulqa") / "val.csv").open() as file:
        return [f"{row['Question']} {row['Best Answer']}" for row in csv.DictReader(file)]
