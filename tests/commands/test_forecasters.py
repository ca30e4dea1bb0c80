"""`foresight forecasters list` and `check`, as a user types them."""

import os
import subprocess
import sys

import pytest

import foresight.forecasters as registry
from foresight.common import plugins
from foresight.forecasters.conformance import RULES

MODULE = """
from foresight.forecasters import Forecaster
class Sound(Forecaster):
    '''It stays [red]as[/red] it is, see Doe et al. (2020). More.'''
    def _fit(self, series):
        pass
    def _predict(self, horizon):
        return self.series_.values[:, -1]
class Jittery(Sound):
    def _predict(self, horizon):
        return super()._predict(horizon) * (1 + 1e-3 * self.series_.index)
class Excused(Jittery):
    expected_failures = {"ties_stable": "[late] indexes are believed to matter"}
class Modest(Sound):
    expected_failures = {"ties_stable": "one never knows"}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module in the working folder."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "typed_by_the_user.py").write_text(MODULE)
    yield "typed_by_the_user"
    sys.modules.pop("typed_by_the_user", None)


def rows(out):
    return [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]


def test_list_has_every_forecaster_with_what_it_can(cli):
    code, out, _ = cli("forecasters", "list")
    assert code == 0 and max(map(len, out.splitlines())) <= 120
    listed = {row[0]: row[1:] for row in rows(out) if row[0]}
    assert set(registry.BUILT_IN) <= set(listed)
    assert listed["persistence"] == ["built-in", "The last snapshot, whatever the horizon.", "ignored"]
    assert listed["ridge"][2:] == ["used"]


def test_list_survives_a_package_that_cannot_be_imported(cli, monkeypatch):
    class Point:
        name, dist, value = "broken_one", None, "absent:Mine"

        def load(self):
            raise ImportError("no module [absent]")

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point()])
    code, out, _ = cli("forecasters", "list")
    assert code == 0 and "broken_one" in out and "[absent]" in out and "persistence" in out


def test_check_of_a_sound_forecaster(cli, module):
    for name in ("persistence", f"{module}:Sound"):
        code, out, err = cli("forecasters", "check", name)
        assert code == 0 and not err
        assert [row[0] for row in rows(out) if row[0]] == list(RULES)
        assert {row[1] for row in rows(out) if row[0]} == {"pass"}
        assert f"{len(RULES)} rules: 0 failed, 0 expected to fail" in out


def test_check_of_a_broken_forecaster_fails(cli, module):
    code, out, _ = cli("forecasters", "check", f"{module}:Jittery")
    outcome = {row[0]: row[1:] for row in rows(out) if row[0]}
    assert code == 1 and [name for name in outcome if outcome[name][0] == "fail"] == ["ties_stable"]
    assert outcome["ties_stable"][1].startswith("components alike in everything")
    assert "1 failed" in out


def test_expected_failures_are_shown_with_their_reason(cli, module):
    code, out, _ = cli("forecasters", "check", f"{module}:Excused")
    assert code == 0 and "0 failed, 1 expected to fail" in out
    assert ["ties_stable", "expected failure", "[late] indexes are believed to matter"] in rows(out)
    code, out, _ = cli("forecasters", "check", f"{module}:Modest")
    assert code == 1 and "passes, though it is an expected failure" in out


@pytest.mark.parametrize(
    "words, problem",
    [
        (["check", "rigde"], "did you mean 'ridge'?"),
        (["check", "absent_module:Mine"], "importing 'absent_module' failed"),
        (["check", "json:dumps"], "expected a subclass"),
        (["check"], "the following arguments are required: NAME"),
        (["check", "ridge", "--fast"], "unexpected argument '--fast'"),
        (["chek", "ridge"], "choose from"),
        ([], "required: ACTION"),
    ],
)
def test_errors_are_one_line(cli, words, problem):
    code, _, err = cli("forecasters", *words)
    assert code == 2 and problem in err and err.startswith("foresight: error: ") and err.count("\n") == 1


@pytest.mark.parametrize("words", [["forecasters", "--help"], ["forecasters", "check", "--help"]])
def test_help_is_quick(words):
    start = os.times()
    script = (
        "import sys\nfrom foresight.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch', 'sklearn', 'numpy', 'rich'} & set(sys.modules)\nassert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: foresight forecasters" in done.stdout
    end = os.times()
    assert end.children_user + end.children_system - start.children_user - start.children_system < 1
