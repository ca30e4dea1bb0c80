"""`foresight forecasters bench` as a user types it, also with a forecaster of their own."""

import json
import re
import sys

import pytest

from foresight.cli import main
from foresight.studies.bench.corpus import write_corpus
from support.planted_corpus import runs

MODULE = """
from foresight.forecasters import Forecaster
class Trend(Forecaster):
    '''Every score goes on as it did.'''
    def _fit(self, series):
        pass
    def _predict(self, horizon):
        values, steps = self.series_.values, self.series_.steps
        return values[:, -1] * (values[:, -1] / values[:, 0]) ** (horizon / (steps[-1] - steps[0]))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working folder, with a corpus file and a module."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    write_corpus(runs("relay", tasks=3, models=2), tmp_path / "mine.safetensors")
    (tmp_path / "of_the_user.py").write_text(MODULE)
    yield tmp_path
    sys.modules.pop("of_the_user", None)


def test_a_forecaster_of_ones_own_is_judged_on_runs_of_ones_own(place, capsys):
    command = ["forecasters", "bench", "of_the_user:Trend", "mean", "--runs", "mine.safetensors", "--out", "found"]
    assert main(command) == 0
    out = capsys.readouterr().out
    assert "of_the_user:Trend is the choice" in re.sub(r"\s+", " ", out)
    data = json.loads((place / "found" / "leaderboard.json").read_text())
    assert [board["split"] for board in data["boards"]] == ["task", "model"]
    task = data["boards"][0]
    assert [line["forecaster"] for line in task["standings"]][:2] == ["of_the_user:Trend", "persistence"]
    assert task["counts"] == {"questions": 108, "runs": 12, "tasks": 3, "models": 2}
    assert task["choice"]["by_task"].keys() == {"task0", "task1", "task2"}
    page = (place / "found" / "leaderboard.html").read_text()
    assert "of_the_user:Trend is the choice" in page and "ceiling" in page
    assert not re.search(r"(src|href)=[\"']?(https?:)?//", page)
    assert page.count("data:image/svg+xml") == 4


def test_more_runs_join_those_named(place, capsys):
    write_corpus(runs("relay", tasks=1, seeds=1, rng_seed=3), place / "more.safetensors")
    flags = ["--runs", "mine.safetensors", "--leave-out", "task"]
    assert main(["forecasters", "bench", "persistence", *flags, "--add", "more.safetensors"]) == 2
    assert "twice" in capsys.readouterr().err  # the same name, model and seed
    assert main(["forecasters", "bench", "persistence", *flags]) == 0


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["persistance", "--runs", "mine.safetensors"], "did you mean 'persistence'"),
        (["mean", "--runs", "nowhere"], "nowhere does not exist; expected recorded runs"),
        (["mean", "--runs", "mine.safetensors", "--scorer", "utility"], "no run of scorer 'utility'"),
        (["mean", "--runs", "one.safetensors"], "nothing can be left out"),
        (["mean", "--leave-out", "seed"], "invalid choice"),
    ],
)
def test_what_cannot_be_judged_is_an_error_that_says_what_to_do(place, capsys, flags, words):
    write_corpus(runs("relay", tasks=1, seeds=2), place / "one.safetensors")
    assert main(["forecasters", "bench", *flags]) == 2
    assert words.lower() in capsys.readouterr().err.lower()


def test_forecasts_from_weights_are_judged_on_tracked_runs(tmp_path, capsys):
    small = {
        "seeds": 1, "max_steps": 8, "probe_every": 2, "probe_examples": 8, "task_examples": 32, "task_eval_examples": 8,
        "per_device_train_batch_size": 4, "workers": 1,
    }  # fmt: skip
    flags = [word for name, value in small.items() for word in (f"--{name}", str(value))]
    study = str(tmp_path / "study")
    recipe = ["--config", "recipes/forecasters/corpus.yaml", "--tasks", "ioi", "gender", "--out", study]
    assert main(["track", *recipe, *flags]) == 0
    asked = ["taylor", "displaced", "mean"]
    out = tmp_path / "found"
    assert main(["forecasters", "bench", *asked, "--runs", study, "--out", str(out)]) == 0
    board = json.loads((out / "leaderboard.json").read_text())["boards"][0]
    lines = {line["forecaster"]: line for line in board["standings"]}
    assert set(lines) == {*asked, "persistence"}
    assert all(line["precision"]["n"] == 2 and line["skill"]["mean"] <= 1 for line in lines.values())
    file = next((tmp_path / "study" / "runs").glob("*/run/recording/weights/*/*.safetensors"))
    capsys.readouterr()
    for folder in file.parents[1].iterdir():
        for stored in folder.iterdir():
            stored.unlink()
        folder.rmdir()
    file.parents[1].rmdir()
    assert main(["forecasters", "bench", "taylor", "--runs", study, "--out", str(tmp_path / "again")]) == 2
    assert "keep_weights" in capsys.readouterr().err
