"""The catalogue of policies is true, light, and says what to write instead."""

from __future__ import annotations

import inspect
import math
import subprocess
import sys

import pytest

from foresight.common.errors import ConfigError, UnknownNameError
from foresight.policies.catalogue import (
    GRANULARITIES,
    OPTIONAL,
    POLICIES,
    RECORDING,
    REMOVED,
    checked_params,
    entry,
    make_policy,
    policy_class,
    takers,
)
from foresight.policies.policy import Policy
from foresight.policies.single_weights.weight_policy import WeightPolicy
from foresight.training.settings import NAMES, MaskSettings

OF_WEIGHTS = {"random", "static", "reactive", "movement", "foresight", "replay"}
ENTRIES = [
    (policy, granularity)
    for granularity in GRANULARITIES
    for policy in POLICIES
    if (policy in OF_WEIGHTS if granularity == "weights" else policy != "movement")
]
NEEDED = {"oracle_trajectory": "run", "mask_schedule": "schedule.json", "movement_from": "run"}
"""Values of the parameters that have no default."""


def needed(policy, granularity):
    return {name: value for name, value in NEEDED.items() if name in entry(policy, granularity).parameters}


# -- what it says is so -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("policy", "granularity"), ENTRIES)
def test_an_entry_is_its_class(policy, granularity):
    found, made = entry(policy, granularity), policy_class(policy, granularity)
    assert issubclass(made, Policy) and made.name == policy
    assert issubclass(made, WeightPolicy) <= (granularity == "weights")
    signature = dict(inspect.signature(made).parameters)
    assert list(signature) == list(found.parameters)
    for name, parameter in found.parameters.items():
        given = signature[name].default
        assert (given is inspect.Parameter.empty) == parameter.required
        assert parameter.required or (given == parameter.default and type(given) is type(parameter.default))
        assert parameter.default is None or parameter.check(name, parameter.default) == parameter.default
        assert parameter.help.endswith(".") and parameter.help.strip() == parameter.help


@pytest.mark.parametrize(("policy", "granularity"), ENTRIES)
def test_what_a_policy_takes_agrees_with_what_it_is(policy, granularity):
    found = entry(policy, granularity)
    takes, made = found.takes, policy_class(policy, granularity)
    assert takes <= OPTIONAL <= set(NAMES)
    scores = made.needs_scores or made.scouts == "bank" or getattr(made, "needs_probe", False)
    assert scores == ("probe_examples" in takes) == ("probe_batch_size" in takes)
    assert scores <= ("scorer" in takes)
    assert made.ranks == ("head_share" in takes) == ("limits" in takes)
    assert made.forecasts == ("watch_steps" in found.parameters)
    rotates = "watch" in found.parameters and "rotate" in found.parameters["watch"].choices
    assert rotates == ("probe_every" in takes)
    assert (made.scouts == "bank") == ("scout_share" in found.parameters) == ("scout_learning_rate" in found.parameters)
    assert ("forecaster" in takes) == ("forecaster_params" in takes) == ("gate" in takes)
    assert ("target" in takes) == ("target_params" in takes)
    assert ("budget" in takes) == (policy != "full")
    assert ("candidates" in takes) == (policy != "replay")


@pytest.mark.parametrize(("policy", "granularity"), ENTRIES)
def test_who_remasks_takes_a_cadence(policy, granularity):
    params = needed(policy, granularity)
    made = make_policy(policy, granularity, params)
    redrawn = make_policy(policy, granularity, {"redraw": True}) if policy == "random" else made
    assert redrawn.remasks == ("remask_every" in entry(policy, granularity).takes)
    assert not (policy == "random" and made.remasks)


def test_every_setting_that_only_some_take_is_taken_by_some():
    everywhere = {name for policy, granularity in ENTRIES for name in entry(policy, granularity).takes}
    assert everywhere | {"mlp_block", "record"} == OPTIONAL
    assert RECORDING <= OPTIONAL
    assert takers("horizon", "components") == ["foresight", "oracle_ahead"] and not takers("horizon", "weights")


def test_parameters_are_handed_on_to_the_class():
    made = make_policy("foresight", "components", {"watch": "rotate", "watch_steps": 7, "cutoff": 30})
    assert (made.watch, made.watch_steps, made.cutoff) == ("rotate", 7, 30)
    assert make_policy("random", "vectors", '{"redraw": true, "by": "layer"}').by == "layer"
    assert make_policy("oracle", "components", {"oracle_trajectory": "run/trajectory"}).path == "run/trajectory"
    assert make_policy("probing", "components", {"scout_share": 1}).share == 1.0
    assert checked_params("foresight", "weights", None) == {
        "maps": None, "lora_steps": None, "scale_rate": True, "own": True, "watch": "hold", "watch_steps": None,
    }  # fmt: skip


def test_names_and_settings_are_checked_without_anything_heavy():
    code = (
        "import sys\n"
        "from foresight.policies.catalogue import checked_params\n"
        "from foresight.training.checks import MaskSettings, check_settings\n"
        "checked_params('foresight', 'weights', {'watch': 'full-keep'})\n"
        "check_settings(MaskSettings(policy='random', policy_params={'redraw': True}))\n"
        "print(*({'torch', 'transformers', 'trl', 'sklearn', 'scipy', 'datasets'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


# -- what it refuses --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", REMOVED)
def test_a_removed_policy_names_what_replaces_it(policy):
    assert policy not in POLICIES
    for granularity in GRANULARITIES:
        with pytest.raises(ConfigError, match=f"policy '{policy}' was removed; use policy '") as refused:
            entry(policy, granularity)
        instead = str(refused.value).split("use policy '")[1].split("'")[0]
        assert instead in POLICIES


@pytest.mark.parametrize(
    "policy, granularity, params, message",
    [
        ("foresigth", "components", {}, "unknown policy 'foresigth' .did you mean 'foresight'"),
        ("random", "weight", {}, "unknown granularity 'weight' .did you mean 'weights'"),
        ("movement", "components", {}, "does not choose masks of components; use granularity 'weights', or one of"),
        ("oracle", "weights", {}, "does not choose masks of weights; .*'components' or 'vectors' or 'rows', or"),
        ("random", "components", {"horizon": 5},
         "policy 'random' over components takes no policy_params.horizon; it is a setting of its own, taken by "
         "foresight, oracle_ahead"),
        ("random", "weights", {"gate": True}, "it is a setting of its own, taken by no policy"),
        ("random", "components", {"redrw": True}, "it takes redraw, by .did you mean 'redraw'"),
        ("foresight", "components", {"watch_step": 3}, "did you mean 'watch_steps'"),
        ("full", "components", {"anything": 1}, "takes no policy_params.anything; it takes none"),
        ("random", "components", {"cutoff": 3}, "policy_params.cutoff; it belongs to policy 'foresight'$"),
        ("random", "vectors", {"cutoff": 3}, "policy_params.cutoff; it belongs to policy 'foresight'$"),
        ("foresight", "components", {"maps": ["run"]}, "it belongs to policy 'foresight' over weights$"),
        ("static", "weights", {"oracle_trajectory": "x"}, "it belongs to policy 'oracle' over components, policy"),
        ("oracle", "components", {}, "policy 'oracle' needs policy_params.oracle_trajectory: "),
        ("oracle_ahead", "vectors", {"oracle_trajectory": None}, "needs policy_params.oracle_trajectory: "),
        ("replay", "components", None, "policy 'replay' needs policy_params.mask_schedule: "),
        ("movement", "weights", {}, "policy 'movement' needs policy_params.movement_from: "),
        ("random", "components", {"redraw": 1}, "policy_params.redraw is 1; expected true or false"),
        ("random", "components", {"by": True}, "policy_params.by is True; expected a text"),
        ("random", "components", {"by": "layers"}, "unknown policy_params.by 'layers' .did you mean 'layer'"),
        ("foresight", "components", {"watch": "rotat"}, "unknown policy_params.watch 'rotat' .did you mean 'rotate'"),
        ("foresight", "components", {"watch_steps": 2.5}, "watch_steps is 2.5; expected a whole number"),
        ("foresight", "components", {"watch_steps": True}, "watch_steps is True; expected a whole number"),
        ("foresight", "components", {"watch_steps": 0}, "watch_steps is 0; expected at least 1"),
        ("foresight", "components", {"cutoff": 0}, "cutoff is 0; expected at least 1"),
        ("foresight", "weights", {"watch": "rotate"}, "unknown policy_params.watch 'rotate'"),
        ("probing", "components", {"scout_share": 0}, "scout_share is 0.0; expected a number above 0, at most 1"),
        ("probing", "components", {"scout_share": 1.1}, "scout_share is 1.1; expected a number above 0, at most 1"),
        ("probing", "components", {"scout_share": "half"}, "scout_share is 'half'; expected a number"),
        ("probing", "components", {"scout_learning_rate": -1}, "expected a number above 0"),
        ("probing", "components", {"scout_learning_rate": math.nan}, "expected a number above 0"),
        ("random", "components", [1], "policy_params is .*; expected a mapping such as"),
        ("random", "components", "redraw", "policy_params 'redraw' is not JSON"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_with_what_would(policy, granularity, params, message):
    with pytest.raises(ConfigError, match=message):
        make_policy(policy, granularity, params)


def test_unknown_names_are_errors_of_their_own():
    with pytest.raises(UnknownNameError):
        entry("foresigth", "components")
    assert MaskSettings().policy in POLICIES and MaskSettings().granularity in GRANULARITIES
