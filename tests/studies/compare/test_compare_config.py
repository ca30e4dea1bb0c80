"""Settings that make no comparison are refused, with what was expected."""

import pytest

from foresight.common.errors import BudgetError, ConfigError, UnknownNameError
from foresight.policies.catalogue import entry as policy_entry
from foresight.studies.adapters import METHODS
from foresight.studies.compare.arms import ARMS, arm, arms
from foresight.studies.compare.settings import CompareConfig
from foresight.training.config import ForesightConfig


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"target_tasks": ["ioi", "boolean"]}, "named twice"),
        ({"target_tasks": []}, "target_tasks is empty"),
        ({"target_tasks": ["ioi", "gendr"]}, "did you mean 'gender'"),
        ({"seeds": 0}, "seeds is 0"),
        ({"learning_rates": []}, "learning_rates is empty"),
        ({"arms": ["orakle", "static"]}, "did you mean 'oracle'"),
        ({"arms": ["static:atribution"]}, "did you mean 'attribution'"),
        ({"arms": ["foresight:rigde"]}, "did you mean 'ridge'"),
        ({"arms": ["reactive:often"]}, "no number of steps"),
        ({"arms": ["statik:gradient"]}, "did you mean 'static'"),
        ({"arms": [{"name": "x"}]}, "expected a name, or a mapping with name and like"),
        ({"arms": [{"name": "x", "like": "static", "setings": {}}]}, "did you mean 'settings'"),
        ({"arms": ["static", {"name": "static", "like": "random"}]}, "two arms are called 'static'"),
        ({"arms": ["static", "touched"], "primary_arm": "static"}, "as large as arm 'reactive'"),
        ({"arms": ["static", "ema"]}, "arm 'ema' no longer exists; write .*smoothed"),
        ({"arms": ["static", "layers"]}, 'arm \'layers\' no longer exists; write .*{"by": "layer"}'),
        (
            {"arms": ["static", {"name": "x", "like": "static", "settings": {"horizon": 5}}]},
            "arm 'x': horizon is 5, but",
        ),
        (
            {"arms": ["static", {"name": "x", "like": "reactive", "settings": {"watch_steps": 3}}]},
            "policy_params.watch_",
        ),
        (
            {"arms": ["static", {"name": "x", "like": "lora", "settings": {"scorer": "gradient"}}]},
            "no mask; remove scorer",
        ),
        ({"memories": {"short": {"adam_beta": 0.8}}}, "did you mean 'adam_beta"),
        ({"memories": {"short": 3}}, "expected a mapping"),
        ({"arms": ["static", {"name": "x", "like": "random", "memory": "kept"}]}, "memory of arm 'x'"),
        ({"primary_arm": "lora"}, "primary_arm"),
        ({"primary_measure": "log_loss"}, "did you mean 'log_loss_area'"),
        ({"primary_against": ["smoothed"]}, "needs at least one"),
        ({"arms": ["static", "damage"], "primary_arm": "damage", "retained_tasks": []}, "needs retained_tasks"),
    ],
)
def test_settings_that_make_no_comparison_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        CompareConfig(**changes)


@pytest.mark.parametrize("budget", [0, 1.5])
def test_a_budget_is_a_share(budget):
    with pytest.raises(BudgetError, match="share of all model parameters"):
        CompareConfig(budgets=[budget])


@pytest.mark.parametrize("name", ARMS)
def test_every_arm_can_be_run(name, tmp_path):
    """Its settings are known to the trainer, and its adapter exists."""
    entry = ARMS[name]
    if entry.method == "mask":
        policy, granularity = entry.settings["policy"], entry.settings.get("granularity", "components")
        assert entry.weights == (granularity == "weights")
        needed = {name for name, one in policy_entry(policy, granularity).parameters.items() if one.required}
        assert bool(needed) == bool(entry.hindsight) and needed <= {"oracle_trajectory", "movement_from"}
        told = {**entry.settings.get("policy_params", {}), **dict.fromkeys(needed, "a run")}
        ForesightConfig(output_dir=str(tmp_path), **{**entry.settings, "policy_params": told})
    else:
        assert entry.method in METHODS and not entry.settings


def test_every_adapter_is_an_arm():
    assert {entry.method for entry in ARMS.values()} == {"mask", *METHODS}


def test_families_vary_one_setting():
    assert arm("static:gradient").settings == {"policy": "static", "scorer": "gradient"}
    assert arm("reactive:5").settings == {"policy": "reactive", "remask_every": 5}
    found = arm("foresight:drift")
    assert found.settings == {"policy": "foresight", "forecaster": "drift", "gate": False} and found.learns


def test_an_own_arm_replaces_what_it_names():
    own = arm({"name": "mine", "like": "random", "draws": 1, "settings": {"mlp_block": 8}})
    assert (own.name, own.label, own.draws) == ("mine", "mine", 1)
    assert own.settings == {"policy": "random", "mlp_block": 8}
    assert "mlp_block" not in ARMS["random"].settings


def test_full_comes_first_whatever_the_order():
    assert list(arms(["static", "full", "random"])) == ["full", "static", "random"]
    assert list(CompareConfig(arms=["static", "reactive"], primary_arm="reactive").chosen) == [
        "full", "static", "reactive",
    ]  # fmt: skip


def test_retained_tasks_leave_out_the_target():
    config = CompareConfig(retained_tasks=["reverse", "ioi"])
    assert config.retained() == ["reverse", "ioi"] and config.retained("ioi") == ["reverse"]
    assert not set(CompareConfig().retained()) & set(CompareConfig().tasks)


def test_unknown_names_are_of_their_own_kind():
    with pytest.raises(UnknownNameError):
        CompareConfig(arms=["orakle"])
