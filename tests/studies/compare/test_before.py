"""What would fail in every run of a comparison is found before the first."""

import json
from dataclasses import replace

import pytest

from foresight.common.errors import ConfigError
from foresight.studies.compare.before import check
from foresight.studies.compare.plan import Plan
from foresight.studies.compare.settings import CompareConfig
from foresight.studies.compare.study import run_comparison
from foresight.studies.runner import RUNS

QUICK = CompareConfig().quick()
TWO = {"arms": ["full", "static", "random"], "primary_arm": "random"}


def task_file(path, rows):
    path.write_text("\n".join(map(json.dumps, rows)))
    return str(path)


def test_a_comparison_that_can_run_passes():
    check(Plan(replace(QUICK, arms=["full", "random", "static", "foresight", "oracle", "lora"])))


def pairs(i):
    return {"clean": f"the {i} cat", "corrupted": f"the {i} dog", "answer": "sat", "wrong_answer": " ran"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([pairs(i) for i in range(40)], r"task .*rows\.jsonl: contrast pair 0 cannot be used: .* start with a space"),
        ([{"prompt": "the cat", "completion": " sat"}] * 8, r"none of its 8 rows falls into split '\w+', which a hash"),
    ],
)
def test_rows_that_no_run_could_use_stop_it_before_the_first(rows, message, tmp_path):
    own = task_file(tmp_path / "rows.jsonl", rows)
    config = replace(QUICK, target_tasks=[own], **TWO)
    with pytest.raises(ConfigError, match=f"{message}.*; nothing has been run"):
        run_comparison(tmp_path / "study", config)
    assert not (tmp_path / "study" / RUNS).exists()


def test_settings_that_an_arm_cannot_take_name_the_arm():
    with pytest.raises(ConfigError, match="arm full: .*fp16.*; nothing has been run"):
        check(Plan(replace(QUICK, training={"fp16": True}, **TWO)))
