"""Forecasts are kept until their step has come, then judged; the log survives as state."""

import json

import numpy as np
import pytest

from foresight.common.errors import CheckpointError, ConfigError
from foresight.trajectory.series import Forecast
from foresight.trajectory.skill_log import SkillLog


def log_with_two():
    log = SkillLog(k=2)
    log.record(Forecast(10, 30, np.array([0, 1, 2, 3]), np.array([3, 2, 1, 0])))
    log.record(Forecast(20, 50, np.array([3, 2, 1, 0]), np.array([0, 1, 2, 3])))
    return log


def test_forecasts_are_judged_when_their_step_has_come():
    log = log_with_two()
    assert log.resolve(20, np.ones(4)) == [] and len(log.pending) == 2
    (outcome,) = log.resolve(35, np.array([0, 1, 2, 3]))
    assert (outcome.made_at, outcome.for_step, outcome.resolved_at) == (10, 30, 35)
    assert (outcome.skill, outcome.overlap, outcome.persistence_overlap) == (1, 1, 0)
    (outcome,) = log.resolve(50, np.array([0, 1, 2, 3]))
    assert (outcome.skill, outcome.overlap, outcome.persistence_overlap) == (float("-inf"), 0, 1)
    assert log.pending == [] and len(log.outcomes) == 2 and log.resolve(60, np.ones(4)) == []


def test_the_log_keeps_copies():
    prediction = np.ones(3)
    log = SkillLog(k=1)
    log.record(Forecast(0, 1, prediction, np.zeros(3)))
    prediction[:] = 9
    assert (log.pending[0].prediction == 1).all()


def test_skill_log_state_round_trip():
    log = log_with_two()
    log.resolve(30, np.array([0, 1, 2, 3]))
    log.outcomes.append(type(log.outcomes[0])(1, 2, 3, float("-inf"), 0.5, 1.0))
    arrays, data = log.state()
    again = SkillLog.from_state(arrays, json.loads(json.dumps(data, allow_nan=False)))
    assert again.outcomes == log.outcomes and again.k == 2
    assert again.resolve(99, np.ones(4)) == log.resolve(99, np.ones(4))


def test_damaged_skill_log_states_are_refused():
    arrays, data = log_with_two().state()
    bad = [
        ({}, data),
        ({**arrays, "extra": np.ones(2)}, data),
        ({**arrays, "0.prediction": np.ones(3)}, data),
        (arrays, {**data, "extra": 1}),
        (arrays, {k: v for k, v in data.items() if k != "outcomes"}),
        (arrays, {**data, "pending": [[1]]}),
        (arrays, {**data, "outcomes": [{"made_at": 1}]}),
    ]
    for case in bad:
        with pytest.raises(CheckpointError):
            SkillLog.from_state(*case)


def test_a_forecast_must_be_about_the_future_and_of_one_shape():
    with pytest.raises(ConfigError, match="forecast of step 5 was made at step 5"):
        SkillLog(1).record(Forecast(5, 5, np.ones(2), np.ones(2)))
    with pytest.raises(ConfigError, match="shapes"):
        SkillLog(1).record(Forecast(5, 6, np.ones(2), np.ones(3)))
