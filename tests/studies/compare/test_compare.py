"""A comparison from start to report, for real on the shipped model, whole and interrupted."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest

from foresight.report.comparison import write_report
from foresight.studies.compare.plan import Plan
from foresight.studies.compare.settings import CompareConfig
from foresight.studies.compare.study import RESULTS, read_comparisons, run_comparison
from foresight.studies.ledger import RESULT
from foresight.studies.runner import RUNS

QUICK = replace(CompareConfig().quick(), steps=4, remask_every=2, probe_every=2)
"""The demo with a third of the steps that `foresight demo --quick` takes, which .ci/run runs."""
SMALL = replace(QUICK, arms=["full", "static", "reactive"], primary_arm="reactive")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    return folder, run_comparison(folder, QUICK)


def test_the_quick_demo_from_start_to_report(demo):
    folder, summary = demo
    (part,) = summary.budgets
    assert summary.failures == () and set(part.arms) == set(QUICK.arms)
    assert part.arms["full"].measures["overlap"].mean == part.arms["oracle"].measures["overlap"].mean
    assert part.arms["full"].peak_bytes > 2 * part.arms["static"].peak_bytes
    assert len({arm.trainable for name, arm in part.arms.items() if name != "full"}) == 1
    assert part.arms["static"].scoring_seconds > 0 and part.arms["random"].scoring_seconds == 0
    page = write_report([folder]).read_text()
    assert summary.verdict.sentence.split(":")[0] in page and "http://" not in page and "https://" not in page


def test_a_second_call_finds_everything_done(demo):
    folder, summary = demo
    before = {path: path.stat().st_mtime_ns for path in (folder / RUNS).glob(f"*/{RESULT}")}
    assert len(before) == Plan(QUICK).total
    assert run_comparison(folder, QUICK) == summary == read_comparisons([folder])[1]
    assert {path: path.stat().st_mtime_ns for path in (folder / RUNS).glob(f"*/{RESULT}")} == before


@pytest.mark.slow
def test_killed_and_restarted_it_ends_with_the_same_ledger(tmp_path):
    """kill -9 of the whole comparison at three moments; what is left of its runs is as if nothing had happened."""
    whole = run_comparison(tmp_path / "whole", SMALL)
    code = (
        "from dataclasses import replace\n"
        "from foresight.studies.compare.study import run_comparison\n"
        "from tests.studies.compare.test_compare import SMALL\n"
        "if __name__ == '__main__': run_comparison(__import__('sys').argv[1], SMALL)\n"
    )
    script = tmp_path / "script.py"
    script.write_text(code)
    out = tmp_path / "broken"
    for done in (1, 3, 5):
        process = subprocess.Popen(
            [sys.executable, script, out], env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        deadline = time.monotonic() + 300
        while len(list((out / RUNS).glob(f"*/{RESULT}"))) < done and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    again = run_comparison(out, SMALL)
    records = [
        {path.parent.name: json.loads(path.read_text())["measures"] for path in (folder / RUNS).glob(f"*/{RESULT}")}
        for folder in (tmp_path / "whole", out)
    ]
    assert records[0].keys() == records[1].keys()
    for key, measured in records[0].items():
        timed = ("train_seconds", "scoring_seconds", "notes")
        assert {k: v for k, v in measured.items() if k not in timed} == {
            k: v for k, v in records[1][key].items() if k not in timed
        }
    assert again.verdict == whole.verdict and (out / RESULTS).exists()
