"""Settings: few, all of them meant, and refused with what would take them."""

from __future__ import annotations

import math
from dataclasses import fields

import pytest
from trl import SFTConfig

import foresight.forecasters as forecasters
from foresight.common.errors import ConfigError
from foresight.policies.catalogue import GRANULARITIES, OPTIONAL, PARAMETERS, POLICIES, REMOVED, entry, takers
from foresight.training import settings
from foresight.training.checks import check_settings, only_taken, retained_size, taken
from foresight.training.config import ForesightConfig
from foresight.training.settings import GROUPS, LIMITS, NAMES, MaskSettings


def checked(**given):
    made = MaskSettings(**given)
    check_settings(made)
    return made


# -- what there is ----------------------------------------------------------------------------------------------------


def test_there_are_few_and_none_is_trls():
    theirs = {field.name for field in fields(SFTConfig)}
    own = [field.name for field in fields(ForesightConfig) if field.name not in theirs]
    assert sorted(own) == sorted(NAMES) and len(own) <= 27
    assert set(NAMES) >= OPTIONAL and not set(NAMES) & PARAMETERS


def test_each_has_its_help_under_one_heading():
    assert [name for names in GROUPS.values() for name in names] == list(NAMES)
    assert all(field.metadata["help"].rstrip().endswith(".") for field in fields(MaskSettings))


def test_defaults_are_those_of_what_they_name():
    made = checked()
    assert made.forecaster == forecasters.DEFAULT and made.target == "circuit"
    assert made.policy == "foresight" and made.granularity == GRANULARITIES[0]


def test_removed_ones_are_gone_and_what_replaces_them_is_there():
    theirs = {field.name for field in fields(SFTConfig)}
    assert not set(settings.REMOVED) & (set(NAMES) | theirs)
    for name, remedy in settings.REMOVED.items():
        for words, known in (("`policy_params.", PARAMETERS), ("`limits.", LIMITS)):
            if words in remedy:
                assert remedy.split(words)[1].split("`")[0] in known, name
    assert not set(REMOVED) & set(POLICIES)


# -- what does not go together ----------------------------------------------------------------------------------------

WEIGHTS = {"granularity": "weights", "policy": "static"}


@pytest.mark.parametrize(
    "given, message",
    [
        ({"policy": "random", "horizon": 5},
         "horizon is 5, but policy 'random' over components does not take it; remove it, or use policy 'foresight', "
         "'oracle_ahead'$"),
        ({"policy": "random", "remask_every": 5},
         "remask_every is 5, but policy 'random' keeps its mask; remove it, or set policy_params.redraw"),
        ({"policy": "static", "remask_every": 5}, "use policy 'random', 'reactive', 'foresight', 'oracle_ahead'$"),
        ({"policy": "static", "probe_every": 5}, "probe_every is 5, but .*use policy 'foresight', or record$"),
        ({"policy": "random", "probe_examples": 5}, "probe_examples is 5, but .*or record"),
        ({"policy": "reactive", "gate": False}, "gate is False, but policy 'reactive'.*use policy 'foresight'$"),
        ({"policy": "reactive", "forecaster": "ridge"}, "forecaster is 'ridge', but policy 'reactive'"),
        ({"policy": "probing", "target": "utility"}, "target is 'utility', but policy 'probing'"),
        ({**WEIGHTS, "record": True},
         "record is True, but policy 'static' over weights does not take it; remove it, or use granularity "
         "'components', 'vectors' or 'rows'"),
        ({**WEIGHTS, "mlp_block": 8}, "mlp_block is 8, but .* over weights .*use granularity 'components'$"),
        ({**WEIGHTS, "target": "utility"}, "target is 'utility'.*use granularity 'components', 'vectors' or 'rows'$"),
        ({"granularity": "vectors", "policy": "static", "mlp_block": 8}, "over vectors .*granularity 'components'$"),
        ({"granularity": "weights", "head_share": 0.5}, "head_share is 0.5, but policy .foresight. over weights"),
        ({"policy": "full", "budget": 0.1}, "budget is 0.1, but policy 'full' .* or use policy 'static', 'random'"),
        ({"policy": "full", "scorer": "gradient"}, "scorer is 'gradient', but policy 'full'.*, or record"),
        ({"policy": "replay", "scorer": "gradient", "policy_params": {"mask_schedule": "s.json"}},
         "scorer is 'gradient', but policy 'replay'"),
        ({"policy": "static", "history": ["past"]}, "only policies 'prior' and 'foresight' and head_share 'prior'"),
        ({"policy": "random", "policy_params": {"horizon": 5}}, "it is a setting of its own, taken by foresight"),
        ({"policy": "random", "policy_params": {"redrw": True}}, "did you mean 'redraw'"),
        ({"policy": "random", "policy_params": {"watch": "rotate"}}, "it belongs to policy 'foresight'"),
        ({"policy": "oracle"}, "policy 'oracle' needs policy_params.oracle_trajectory"),
        ({"policy": "ema"}, "policy 'ema' was removed; use policy 'foresight' with forecaster 'smoothing'"),
        ({"granularity": "weights", "policy": "prior"}, "policy 'prior' does not choose masks of weights"),
        ({"policy": "static", "limits": {"shar": 0.5}}, "limits has no 'shar' .did you mean 'share'"),
        ({"policy": "static", "limits": {"share": 1.5}}, r"limits.share is 1.5; expected a number above 0, at most 1"),
        ({"policy": "static", "limits": {"gib": True}}, "limits.gib is True; expected a number"),
        ({"policy": "static", "limits": {"gib": math.inf}}, "limits.gib is inf; expected a number above 0"),
        ({"policy": "static", "limits": {"share": 0.5, "seconds": 2}}, "both limit the time of a step; remove one"),
        ({"policy": "probing", "limits": {"gib": 2}}, "policy 'probing' trains all components in its scout"),
        ({"limits": {"share": 0.5}, "policy_params": {"watch": "rotate"}}, "use watch 'hold'"),
        ({"budget_schedule": "grown", "policy_params": {"watch": "full-keep"}}, "budget_schedule does not go"),
        ({"budget": 0.5, "budget_schedule": "grown"}, "budget 0.5 .* is 1.05 at its peak; expected at most 1"),
        ({"retained_source": {"exampels": 5}}, "retained_source has no 'exampels' .did you mean 'examples'"),
        ({"retained_source": {"examples": 0}}, "retained_source.examples is 0; expected at least 1"),
        ({"retained_source": "bse"}, "unknown retained_source 'bse' .did you mean 'base'"),
        ({"head_share": "priro"}, "head_share is 'priro' .did you mean 'prior'"),
        ({"head_share": 1.5}, r"head_share is 1.5; expected a number in \[0, 1\], or 'prior'"),
        ({"budget": 0.0}, r"budget is 0.0; expected a share of all model parameters in \(0, 1\]"),
        ({"probe_every": 0}, "probe_every is 0; expected at least 1"),
        ({"remask_every": -1}, "remask_every is -1; expected at least 0"),
        ({"horizon": 0}, "horizon is 0; expected at least 1"),
        ({"replay_share": 1.0}, r"replay_share is 1.0; expected a share in \[0, 1\)"),
        ({"target_params": "none"}, "target_params 'none' is not JSON"),
        ({"forecaster_params": [1]}, "forecaster_params is .*; expected a mapping such as"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_not_taken_is_refused_with_what_would_take_it(given, message):
    with pytest.raises(ConfigError, match=message):
        checked(**given)


def test_the_config_of_a_run_is_checked(tmp_path):
    with pytest.raises(ConfigError, match="horizon is 5, but policy 'random'"):
        ForesightConfig(str(tmp_path), use_cpu=True, policy="random", horizon=5)


def test_record_makes_a_run_take_what_scores_need():
    assert checked(policy="full", record=True, probe_every=5, scorer="gradient", target="circuit").record
    checked(policy="random", record=True, probe_examples=5, target="utility")
    assert taken("random", "vectors", record=True) - taken("random", "vectors") >= {"probe_every", "calibrate"}


# -- what is made of it -----------------------------------------------------------------------------------------------


def test_mappings_may_be_json_text():
    made = checked(
        policy_params='{"watch": "rotate", "watch_steps": 3}', target_params='{"preconditioner": "none"}',
        target="utility", forecaster_params='{"penalty": 2.0}', head_share="0.5",
        budget_schedule="[[0, 2], [0.5, 1]]", retained_source='{"examples": 9}',
    )  # fmt: skip
    assert made.policy_params == {"watch": "rotate", "watch_steps": 3} and made.head_share == 0.5
    assert made.target_params == {"preconditioner": "none"} and made.forecaster_params == {"penalty": 2.0}
    assert retained_size(made) == {"examples": 9, "tokens": 64}
    assert checked(policy="static", limits='{"share": 0.5, "gib": 3}').limits == {"share": 0.5, "gib": 3}
    assert checked(policy="static", limits={}).limits is None


# -- settings that several policies share -----------------------------------------------------------------------------

SHARED = dict(
    budget=0.1, scorer="gradient", probe_examples=8, probe_every=3, remask_every=4, target="utility",
    target_params={"preconditioner": "none"}, head_share="prior", mlp_block=8, history=["past"],
    mask_seed=3, forecaster="ridge", forecaster_params={"penalty": 2.0}, gate=False, horizon=5, probe_batch_size=4,
    candidates={"exclude_modules": ["k_proj"]}, calibrate=False, record=False,
    limits={"share": 0.5, "cost_aware": 0.1}, budget_schedule="grown", restart_every=2, replay_share=0.1,
    retained_source="base",
)  # fmt: skip
PARAMS = dict(
    redraw=True, by="layer", cutoff=9, watch="hold", watch_steps=3, scout_share=0.5, scout_learning_rate=1e-3,
    oracle_trajectory="past", mask_schedule="schedule.json", movement_from="past", maps=["past"], own=False,
    scale_rate=False, lora_steps=3,
)  # fmt: skip
CHOICES = [(policy, granularity) for granularity in GRANULARITIES for policy in takers("budget", granularity)]
CHOICES += [("full", "components"), ("full", "vectors")]


def test_the_shared_settings_are_all_there_are():
    assert set(SHARED) | {"policy", "granularity", "policy_params"} == set(NAMES) and set(PARAMS) == PARAMETERS


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize(("policy", "granularity"), CHOICES)
def test_each_policy_gets_exactly_what_it_takes(policy, granularity, record):
    given = {**SHARED, "policy": policy, "granularity": granularity, "record": record, "policy_params": PARAMS}
    kept = only_taken(given)
    known = taken(policy, granularity, record)
    assert set(kept) == {name for name in given if name not in OPTIONAL or name in known}
    assert all(kept[name] == given[name] for name in kept if name != "policy_params")
    assert kept["policy_params"] == ({name: PARAMS[name] for name in entry(policy, granularity).parameters} or None)
    checked(**kept)


def test_a_fixed_random_mask_has_no_cadence():
    assert "remask_every" not in only_taken({"policy": "random", "remask_every": 5})
    assert "remask_every" in only_taken({"policy": "random", "remask_every": 5, "policy_params": {"redraw": True}})


def test_what_no_policy_knows_stays_to_be_refused():
    kept = only_taken(
        {"policy": "random", "probe_evry": 5, "watch_steps": 3, "policy_params": {"redrw": 1, "cutoff": 3}}
    )
    assert kept == {"policy": "random", "probe_evry": 5, "watch_steps": 3, "policy_params": {"redrw": 1}}
    with pytest.raises(ConfigError, match="did you mean 'redraw'"):
        checked(policy="random", policy_params=kept["policy_params"])
