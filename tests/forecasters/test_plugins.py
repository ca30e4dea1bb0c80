"""A package that offers forecasters is installed as a user would, and found by a fresh process."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "plugins" / "foresight_example"
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The folder into which pip has installed the example package; needs no network, since hatchling is there."""
    pytest.importorskip("hatchling", reason="pip builds the example package with hatchling")
    target = tmp_path_factory.mktemp("site")
    words = "install --quiet --no-index --no-deps --no-build-isolation --disable-pip-version-check --target".split()
    done = subprocess.run([sys.executable, "-m", "pip", *words, target, PACKAGE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return target


@pytest.fixture
def python(installed, tmp_path):
    """Run `python ...` in a process that sees the installed package; returns (exit code, output)."""

    def run(*words):
        env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(installed)])}
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, env=env, cwd=tmp_path)
        return done.returncode, done.stdout + done.stderr

    return run


def test_the_package_is_listed_with_its_version(python):
    code, out = python("-m", "foresight", "forecasters", "list")
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert code == 0, out
    assert ["example_median", "foresight-example 1.2", "The median of the last snapshots.", "ignored"] in rows
    assert ["example_function", "foresight-example 1.2", "The first snapshot, for good.", "ignored"] in rows


@pytest.mark.parametrize("name", ["example_median", "example_function", "foresight_example:RecentMedian"])
def test_the_package_is_checked(python, name):
    code, out = python("-m", "foresight", "forecasters", "check", name)
    assert code == 0 and " 0 failed" in out, out


def test_the_package_is_used_by_name_and_imported_only_then(python):
    script = (
        "import sys, numpy as np\n"
        "from foresight.forecasters import forecaster_names, make_forecaster\n"
        "from foresight.forecasters.conformance.cases import irregular\n"
        "assert {'example_median', 'example_function'} < set(forecaster_names())\n"
        "make_forecaster('persistence')\n"
        "assert 'foresight_example' not in sys.modules\n"
        "made = make_forecaster('example_median', window=5).fit(irregular())\n"
        "assert made.name == 'example_median' and 'foresight_example' in sys.modules\n"
        "np.testing.assert_allclose(made.predict(3), np.median(irregular().values[:, -5:], axis=1))\n"
        "again = make_forecaster('example_median', window=5).load_state(*made.state())\n"
        "np.testing.assert_array_equal(again.predict(3), made.predict(3))\n"
    )
    code, out = python("-c", script)
    assert code == 0, out


def test_unknown_names_suggest_the_package_s(python):
    code, out = python("-m", "foresight", "forecasters", "check", "example_medain")
    assert code == 2 and "did you mean 'example_median'" in out


def test_the_package_is_judged_by_the_benchmark(python, tmp_path):
    make = (
        "import sys; sys.path += {paths}\n"
        "from support.planted_corpus import runs\n"
        "from foresight.studies.bench.corpus import write_corpus\n"
        "write_corpus(runs('still', tasks=2, seeds=1), 'runs.safetensors')\n"
    )
    tests = Path(__file__).parents[1]
    code, out = python("-c", make.format(paths=[str(tests)]))
    assert code == 0, out
    code, out = python("-m", "foresight", "forecasters", "bench", "example_median", "--runs", "runs.safetensors")
    assert code == 0 and "example_median" in out, out
    assert "example_median" in (tmp_path / "bench" / "leaderboard.html").read_text()
