"""Targets and head shares in whole runs: what is recorded, chosen, resumed and refused."""

import pytest

from foresight.common.errors import ConfigError, UnknownNameError
from foresight.masks.selection import head_share_of, select
from foresight.scoring.scorer import BENEFIT, DAMAGE
from foresight.training.config import ForesightConfig
from foresight.trajectory.trajectory import Trajectory
from support.runs import Stop, delta, run, same, trainer
from support.tiny import sentences

OTHER = sentences(12, seed=7)


def keeping(folder, train=True, **settings):
    """A run that knows what is to be kept."""
    made = trainer(folder, contrast=False, retained=OTHER, **settings)
    if train:
        made.train()
    return made


# -- targets ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "recorded"),
    [
        (dict(target="utility"), ("utility",)),
        (dict(target="utility", target_params={"preconditioner": "moves"}), (BENEFIT,)),
        (dict(target="damage"), (BENEFIT, DAMAGE)),
        (dict(target="damage", target_params={"benefit": False}, policy="reactive"), (BENEFIT, DAMAGE)),
        (dict(target="movement", watch="rotate"), ("movement",)),
        (dict(target="utility", policy="static"), ("utility",)),
    ],
    ids=lambda given: "-".join(map(str, given.values())) if isinstance(given, dict) else "",
)
def test_every_target_runs_from_end_to_end(tmp_path, settings, recorded):
    done = keeping(tmp_path / "run", **settings)
    assert done.trajectory.scorers == recorded and done.state.global_step == 12
    if done.args.policy == "foresight":
        assert list(done.trajectory.info["gate"]) == ["3", "6", "9"]
        assert done.run.skill_log.outcomes and done.policy.last_forecast.prediction.shape == (len(done.table),)


def test_the_default_target_is_the_circuit_bit_for_bit(tmp_path):
    default, named = run(tmp_path / "default"), run(tmp_path / "named", target="circuit")
    assert default.schedule.entries == named.schedule.entries and same(
        *(delta(tmp_path / d) for d in ("default", "named"))
    )
    assert "scorer_params" not in default.trajectory.info and default.trajectory.scorers == ("attribution",)


def test_a_recorded_run_of_the_target_is_history_and_hindsight(tmp_path):
    past = keeping(tmp_path / "past", policy="full", record=True, target="damage")
    folder = str(tmp_path / "past" / "trajectory")
    assert past.trajectory.scorers == (BENEFIT, DAMAGE) and len(past.trajectory) == 7
    oracle = keeping(tmp_path / "oracle", policy="oracle", target="damage", oracle_trajectory=folder)
    benefit, harm = past.trajectory.values(BENEFIT)[:, 1:], past.trajectory.values(DAMAGE)[:, 1:]
    expected = select(benefit.mean(1, dtype=float) - harm.mean(1, dtype=float), oracle.table, oracle.run.n_vectors)
    assert oracle.schedule.entries[0][1] == expected
    made = keeping(tmp_path / "now", False, target="damage", forecaster="ridge", history=[folder])
    assert any("pretrained" in key for key in made.policy.state()[0])


def test_scores_taken_otherwise_are_no_history(tmp_path):
    keeping(tmp_path / "past", policy="full", record=True, target="utility", max_steps=2)
    folder = str(tmp_path / "past" / "trajectory")
    assert Trajectory.read(folder).info["scorer_params"] == {"preconditioner": "adam"}
    with pytest.raises(ConfigError, match="recorded with parameters .*adam.* target 'utility' has {}"):
        keeping(tmp_path / "a", False, target="utility", target_params={"preconditioner": "none"}, history=[folder])
    keeping(tmp_path / "b", False, target="utility", history=[folder])


def test_a_resumed_run_of_a_target_is_the_uninterrupted_one(tmp_path):
    settings = dict(target="utility", forecaster="drift", gate=False, save_strategy="steps", save_steps=4)
    whole = run(tmp_path / "whole", **settings)
    broken = trainer(tmp_path / "broken", **settings)
    broken.add_callback(Stop(7))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    resumed = run(tmp_path / "broken", resume=True, **settings)
    assert resumed.schedule.entries == whole.schedule.entries
    assert same(delta(tmp_path / "whole"), delta(tmp_path / "broken"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(target="utilty"), "did you mean 'utility'"),
        (dict(target="utility", target_params={"preconditoner": "adam"}), "did you mean 'preconditioner'"),
        (dict(target="utility", target_params="adam"), "target_params 'adam' is not JSON"),
        (dict(target="damage"), "target 'damage' needs to know what is to be kept"),
        (dict(target="utility", scorer="gradient"), "target 'utility' has its own scores, not scorer 'gradient'"),
        (dict(target="utility", policy="damage"), "policy 'damage' was removed; use policy 'reactive' with target"),
        (dict(target="utility", policy="probing"), "policy 'probing' over components does not take it"),
        (dict(target="movement"), "target 'movement' knows nothing before training"),
        (dict(target="movement", policy="reactive"), "target 'movement' knows nothing before training"),
        (
            dict(target="utility", policy="random", granularity="weights"),
            "target is 'utility', but policy 'random' over weights",
        ),
        (dict(head_share=1.5), r"head_share is 1.5; expected a number in \[0, 1\]"),
        (dict(head_share="priro"), "head_share is 'priro' .did you mean 'prior'"),
        (dict(head_share="nan"), "head_share is 'nan'"),
        (dict(head_share=0.5, policy="full"), "policy 'full' over components does not take it"),
        (dict(head_share=0.5, policy="random", granularity="weights"), "policy 'random' over weights does not take it"),
    ],
    ids=str,
)
def test_what_does_not_go_together_is_refused_before_any_work(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        trainer(tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()


def test_unknown_targets_are_unknown_names(tmp_path):
    with pytest.raises(UnknownNameError):
        ForesightConfig(str(tmp_path), target="circiut", use_cpu=True, bf16=False)


# -- head shares ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policy", "share"), [("foresight", 0), ("foresight", 1.0), ("static", "0.5"), ("reactive", 0.5), ("predicted", 1)]
)
def test_masks_have_the_share(tmp_path, policy, share):
    done = run(tmp_path, policy=policy, head_share=share, mlp_block=4, max_steps=6)
    step = int(done.table.vectors.max()) / done.run.n_vectors
    for _, mask in done.schedule.entries:
        assert head_share_of(mask, done.table) == pytest.approx(float(share), abs=step)


def test_the_prior_s_share_is_that_of_its_mask(tmp_path):
    done = run(tmp_path / "run", policy="static", head_share="prior", mlp_block=4, max_steps=2)
    prior = run(tmp_path / "prior", policy="prior", mlp_block=4, max_steps=2)
    shares = [head_share_of(made.schedule.entries[0][1], made.table) for made in (done, prior)]
    assert shares[0] == pytest.approx(shares[1], abs=32 / done.run.n_vectors)
