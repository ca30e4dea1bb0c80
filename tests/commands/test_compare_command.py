"""`foresight compare` says on the screen, and by its exit code, when runs failed."""

from dataclasses import replace

import pytest

from foresight.commands import compare
from support.synthetic_runs import comparison, settings


@pytest.mark.parametrize(
    ("errors", "code", "said"),
    [
        ({}, 0, ""),
        ({"prior": "DataError: row 3 has no completion"}, 1, "and 3 more: DataError: row 3 has no completion"),
        ({"prior": "NonFiniteError: the loss is nan"}, 1, "NonFiniteError: the loss is nan"),
    ],
)
def test_failed_runs_are_named_with_their_cause(tmp_path, monkeypatch, capsys, errors, code, said):
    from foresight.studies.compare.summary import summarise

    config = settings()
    summary = summarise(comparison(config, fails=errors), config)
    monkeypatch.setattr(compare, "run_comparison", lambda out, config: summary)
    monkeypatch.setattr(compare, "write_report", lambda folders: tmp_path / "report.html")
    assert compare.run(str(tmp_path), config, quick=False) == code
    err = capsys.readouterr().err
    assert said in err and (not errors) == (err == "")


def test_a_rate_at_which_tuning_diverged_is_no_failure(tmp_path, monkeypatch, capsys):
    from foresight.studies.compare.summary import summarise

    config = settings()
    summary = replace(summarise(comparison(config), config), failures=(("static at 1", "NonFiniteError: nan"),))
    monkeypatch.setattr(compare, "run_comparison", lambda out, config: summary)
    monkeypatch.setattr(compare, "write_report", lambda folders: tmp_path / "report.html")
    assert compare.run(str(tmp_path), config, quick=False) == 0 and capsys.readouterr().err == ""
