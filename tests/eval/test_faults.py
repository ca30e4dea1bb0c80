"""The short form of the fault campaign, and that the campaign would see what it looks for."""

import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from eval.faults.acts import Moment, count_acts
from eval.faults.alter import BYTES, JSON, LINES
from eval.faults.artefacts import ARTEFACTS
from eval.faults.case import Case, Verdict, judged
from eval.faults.jobs import JOBS
from eval.faults.kills import COLD, COUNTS
from eval.faults.kinds import KINDS
from eval.faults.leaves import differences, leaves
from eval.faults.ranks import DIFFERENCES
from eval.faults.recipes import RECIPES
from eval.faults.report import report, results
from eval.faults.settings import APPLIED, CHANGES, FREE, REFUSED
from eval.faults.trusting import Agreeable, trusting
from eval.faults.warm import Ended, await_all, child
from foresight.bank import delta
from foresight.training import checkpoint, resuming

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.multi_process
@pytest.mark.timeout(600)
def test_the_short_form_finds_everything_right_and_would_see_what_is_not(tmp_path):
    words = ["--out", tmp_path / "work", "--results", tmp_path / "results", "--short", "--workers", 1]
    ran = subprocess.run(
        [sys.executable, "-m", "eval.faults", *map(str, words)], cwd=REPOSITORY, capture_output=True, text=True
    )
    found = json.loads((tmp_path / "results" / "results.json").read_text())
    assert ran.returncode == 0 and found["not_right"] == [], (found["not_right"], ran.stderr[-2000:])
    # With its digest checks switched off, foresight gives silent wrong answers, and the campaign sees each.
    assert found["counts"]["unchecked"] == {"right": 3, "wrong": 0, "traceback": 0, "hang": 0}
    assert set(found["counts"]) == set(KINDS) and found["short"]
    assert "Everything was right." in (tmp_path / "results" / "report.md").read_text()


def test_there_are_as_many_cases_as_promised_and_all_have_a_name_of_their_own():
    cases = [case for module in KINDS.values() for case in module.cases(0, False)]
    counts = Counter(case.kind for case in cases)
    assert len(set(cases)) == len({case.folder for case in cases}) == len(cases)
    assert counts["kills"] >= 200 and counts["mutations"] >= 500 and counts["settings"] == 40
    assert counts["ranks"] == len(DIFFERENCES) == 20 and counts["rows"] == 40
    assert sum(COLD.values()) == 20
    by_command = Counter()
    for job, count in COUNTS.items():
        by_command[JOBS[job].command] += count
    assert set(by_command) == {job.command for job in JOBS.values()} and min(by_command.values()) >= 20


def test_every_need_is_a_job_that_comes_before():
    names = list(JOBS)
    for place, job in enumerate(JOBS.values()):
        assert all(names.index(other) < place for other in job.needs)
    for artefact in ARTEFACTS.values():
        assert set(artefact.needs) <= set(names)


def test_what_is_expected_of_settings_is_what_the_package_says():
    for change in CHANGES:
        if "." in change.setting or change.name.endswith(("rows", "weights", "probe")):
            continue
        applied, free = change.setting in resuming.APPLIED, change.setting in checkpoint._FREE
        free |= change.setting.startswith(checkpoint._FREE_PREFIXES) or change.setting == "task_eval_examples"
        together = change.name == "rows of a step"  # free one by one, compared as a whole
        expected = APPLIED if applied else FREE if free and not together else REFUSED
        assert change.expected == expected, change


@pytest.mark.parametrize(
    ("ended", "expected", "found", "outcome"),
    [
        (Ended(0, "", 1), {"a": "1"}, {"a": "1"}, "right"),
        (Ended(0, "", 1), {"a": "1"}, {"a": "2"}, "wrong"),
        (Ended(0, "", 1), {"a": "1"}, {}, "wrong"),
        (Ended(0, "", 1), None, None, "wrong"),
        (Ended(2, "foresight: error: delta.json is damaged", 1), {}, None, "right"),
        (Ended(2, "foresight: error: it is damaged", 1), {}, None, "wrong"),
        (Ended(2, "foresight: error: delta.json: KeyError: 'x' (/a/b.py:7)", 1), {}, None, "traceback"),
        (Ended(1, "Traceback (most recent call last):\nKeyError: 'x'", 1), {}, None, "traceback"),
        (Ended(-11, "", 1), {}, None, "traceback"),
        (Ended(None, "", 300), {}, None, "hang"),
    ],
)
def test_outcomes(ended, expected, found, outcome):
    assert judged(ended, ["delta.json"], expected, found)[0] == outcome


def _writes(folder):
    count_acts(folder, folder.parent / "log.command", Moment(3))
    for i in range(9):
        (folder / str(i)).write_text("")


@pytest.mark.parametrize(
    ("act", "code"),
    [(lambda folder: time.sleep(60), None), (_writes, -9), (lambda folder: 1 / 0, 1), (lambda folder: 2, 2)],
)
def test_a_child_is_ended_in_time_or_killed_at_its_moment(tmp_path, act, code):
    folder, log = tmp_path / "out", tmp_path / "log.txt"
    folder.mkdir()
    (ended,) = await_all([child(lambda: act(folder), log)], 3 if code is None else 60, log)
    assert ended.code == code and ("ZeroDivisionError" in ended.output) == (code == 1)
    assert code != -9 or sorted(path.name for path in folder.iterdir()) == ["0", "1"]


def test_a_refusal_has_to_hold_one_word_of_each_group():
    ended = Ended(2, "foresight: error: seed was 3 and is 4", 1)
    assert judged(ended, ["seed + 3 + 4"], None, None)[0] == "right"
    assert judged(ended, ["seed | task + 3 | 5"], None, None)[0] == "right"
    assert judged(ended, ["seed + 7"], None, None)[0] == "wrong"


def test_clocks_and_places_are_left_out(tmp_path):
    for run, seconds in (("one", 1.0), ("two", 2.0)):
        folder = tmp_path / run
        folder.mkdir()
        data = {"loss": 0.5, "train_runtime": seconds, "made": str(folder / "x"), "said": f"{seconds} seconds"}
        (folder / "a.json").write_text(json.dumps(data))
    one, two = (leaves(tmp_path / run, ("*.json",)) for run in ("one", "two"))
    assert one == two == {"a.json /loss": "0.5", "a.json /made": "OUT/x"} and differences(one, two) == ""
    assert differences(one, {"a.json /loss": "0.6"}).startswith("a.json /loss: 0.6, not 0.5")


@pytest.mark.parametrize("name", [*BYTES, *JSON, *LINES, "a key twice"])
def test_changes_change_the_file_and_are_the_same_for_a_seed(tmp_path, name):
    file, said = tmp_path / "file", set()
    change = {**BYTES, **JSON, **LINES, **RECIPES}[name]
    for _ in range(2):
        lines = [{"prompt": f"a{i}", "completion": f"b{i}"} for i in range(4)]
        whole = (
            "".join(json.dumps(line) + "\n" for line in lines) if name in LINES else json.dumps({"a": 1, "b": [2.5]})
        )
        file.write_text(whole)
        said.add(change(file, Case("mutations", name, 0).rng))
        assert not file.exists() or file.read_text(errors="replace") != whole
    assert len(said) == 1


def test_trusting_readers_trust_inside_the_context_only(tmp_path):
    file = tmp_path / "file"
    file.write_text("a")
    before = delta.sha256
    with trusting():
        assert delta.sha256(file) == "something else" and isinstance(delta.sha256(file), Agreeable)
    assert delta.sha256 is before and delta.sha256(file) != "something else"


def test_the_report_counts_and_says_how_to_try_again():
    tried = [
        (Case("kills", "track 3", 7), Verdict("right")),
        (Case("kills", "track 4", 7), Verdict("wrong", "a differs", "killed at act 3", ("foresight track",))),
    ]
    data = results(tried, 7, False, 12.3)
    assert data["counts"] == {"kills": {"right": 1, "wrong": 1, "traceback": 0, "hang": 0}} and data["seed"] == 7
    (one,) = data["not_right"]
    assert one["reproduce"] == "python -m eval.faults --out DIR --seed 7 --kinds kills --only 'track 4'"
    text = report(data)
    assert "| kills | 2 | 1 | 1 | 0 | 0 |" in text and "track 4. killed at act 3. `a differs`" in text
