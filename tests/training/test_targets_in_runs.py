"""Targets, head shares and policy `value` in whole runs: what is recorded, chosen, charged, resumed and refused."""

import json

import numpy as np
import pytest
import torch
from foresight.policies.targets.outcomes import Outcome, write_outcomes
from foresight.training.trials import SHARES, try_shares

from foresight.common.errors import ConfigError, UnknownNameError
from foresight.masks.selection import head_share_of, select
from foresight.policies import View, make_policy
from foresight.scoring.virtual_moves import BENEFIT, DAMAGE
from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from foresight.trajectory.trajectory import Trajectory
from support.runs import Stop, delta, run, same, state_of, trainer, unchanged
from support.tiny import sentences, tiny, tiny_tokenizer

OTHER = sentences(12, seed=7)


def keeping(folder, train=True, **settings):
    """A run that knows what is to be kept."""
    plain = trainer(folder / "unused", policy="random")
    given = {name: getattr(plain.args, name) for name in ("use_cpu", "bf16", "max_steps", "learning_rate", "seed")}
    args = dict(given, activation_checkpointing=False, report_to="none", disable_tqdm=True, save_strategy="no",
                per_device_train_batch_size=4, budget=0.2, probe_every=2, remask_every=3, probe_examples=6,
                watch_steps=3) | settings  # fmt: skip
    made = ForesightTrainer(model=tiny(), args=ForesightConfig(str(folder), **args), train_dataset=sentences(),
                            retained_dataset=OTHER, processing_class=tiny_tokenizer())  # fmt: skip
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
        assert done.skill_log.outcomes and done.policy.last_forecast.prediction.shape == (len(done.table),)


def test_the_default_target_is_the_circuit_bit_for_bit(tmp_path):
    default, named = run(tmp_path / "default"), run(tmp_path / "named", target="circuit")
    assert default.schedule.entries == named.schedule.entries and same(
        *(delta(tmp_path / d) for d in ("default", "named"))
    )
    assert "scorer_params" not in default.trajectory.info and default.trajectory.scorers == ("attribution",)


def test_reacting_to_the_damage_target_is_the_damage_policy(tmp_path):
    policy = keeping(tmp_path / "policy", policy="damage", damage_weight=2.0)
    target = keeping(tmp_path / "target", policy="reactive", target="damage", damage_weight=2.0)
    assert policy.schedule.entries == target.schedule.entries
    assert same(delta(tmp_path / "policy"), delta(tmp_path / "target"))


def test_a_recorded_run_of_the_target_is_history_and_hindsight(tmp_path):
    past = keeping(tmp_path / "past", policy="full", record=True, target="damage")
    folder = str(tmp_path / "past" / "trajectory")
    assert past.trajectory.scorers == (BENEFIT, DAMAGE) and len(past.trajectory) == 7
    oracle = keeping(tmp_path / "oracle", policy="oracle", target="damage", oracle_trajectory=folder)
    benefit, harm = past.trajectory.values(BENEFIT)[:, 1:], past.trajectory.values(DAMAGE)[:, 1:]
    expected = select(benefit.mean(1, dtype=float) - harm.mean(1, dtype=float), oracle.table, oracle.n_vectors)
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
        (dict(target="utility", policy="damage"), "policy 'damage' has a measure of its own"),
        (dict(target="utility", policy="probing"), "policy 'probing' has a measure of its own"),
        (dict(target="movement"), "target 'movement' knows nothing before training"),
        (dict(target="movement", policy="reactive", watch="rotate"), "target 'movement' knows nothing before training"),
        (dict(target="utility", policy="random", granularity="weights"), "not single weights"),
        (dict(head_share=1.5), r"head_share is 1.5; expected a number in \[0, 1\]"),
        (dict(head_share="trails"), "head_share is 'trails' .did you mean 'trials'"),
        (dict(head_share="nan"), "head_share is 'nan'"),
        (dict(head_share="calibrated"), "'calibrated' is what happens without it"),
        (dict(head_share=0.5, policy="full"), "policy 'full' ranks no components"),
        (dict(head_share=0.5, policy="random", granularity="weights"), "masks of single weights have no kinds"),
        (dict(head_share="trials", trial_steps=0), "trial_steps is 0"),
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
    ("policy", "share"), [("foresight", 0), ("foresight", 1.0), ("static", "0.5"), ("utility", 0.5), ("predicted", 1)]
)
def test_masks_have_the_share(tmp_path, policy, share):
    done = run(tmp_path, policy=policy, head_share=share, mlp_block=4, max_steps=6)
    step = int(done.table.vectors.max()) / done.n_vectors
    for _, mask in done.schedule.entries:
        assert head_share_of(mask, done.table) == pytest.approx(float(share), abs=step)


def test_the_prior_s_share_is_that_of_its_mask(tmp_path):
    done = run(tmp_path / "run", policy="static", head_share="prior", mlp_block=4, max_steps=2)
    now = View(done.table, done.n_vectors, 0, 2, seed=3)
    assert head_share_of(done.schedule.entries[0][1], done.table) == pytest.approx(
        head_share_of(make_policy("prior").mask(now), done.table), abs=32 / done.n_vectors
    )


def test_trials_are_undone_charged_and_decide(tmp_path):
    held = trainer(tmp_path / "held", policy="static", head_share="trials", trial_steps=3, mlp_block=12, max_steps=4)
    before = state_of(held)
    found = try_shares(held)
    held.watcher.trajectory = before[3]["watcher"].trajectory
    unchanged(before, held)
    assert found.head_share in SHARES and 1 < found.trials <= len(SHARES)
    assert (found.rows, found.steps) == (12, 3 * found.trials) and found.seconds > 0 and found.spread > 0
    assert found.bytes == 4 * 4 * held.n_vectors * held.table.d_model
    done = run(tmp_path / "run", policy="static", head_share="trials", trial_steps=3, mlp_block=12, max_steps=4)
    logged = {k: v for entry in done.state.log_history for k, v in entry.items() if k.startswith("foresight/trial_")}
    assert logged == done.trials.logged() and done.trajectory.info["trials"]["head_share"] == found.head_share
    assert logged["foresight/trial_loss"] == found.loss  # the same to the bit
    assert done.remasking.seconds > found.seconds / 10 and done.remasking.choosing >= done.trials.seconds
    given = run(tmp_path / "given", policy="static", head_share=found.head_share, mlp_block=12, max_steps=4)
    assert given.schedule.entries == done.schedule.entries and same(delta(tmp_path / "run"), delta(tmp_path / "given"))


def test_the_share_that_learns_fastest_is_taken(tmp_path):
    """Where MLP blocks are dead, only heads can learn."""
    model = tiny()
    with torch.no_grad():
        for layer in model.model.layers:
            layer.mlp.gate_proj.weight.zero_()
            layer.mlp.down_proj.weight.zero_()
            layer.mlp.up_proj.weight.zero_()
    held = trainer(tmp_path, model, policy="random", head_share="trials", trial_steps=6, mlp_block=4, budget=0.1)
    assert try_shares(held).head_share > 0.5


def test_a_resumed_run_keeps_the_tried_share(tmp_path):
    settings = dict(policy="reactive", head_share="trials", trial_steps=1, mlp_block=12, save_strategy="steps",
                    save_steps=3, max_steps=6)  # fmt: skip
    whole = run(tmp_path / "whole", **settings)
    broken = trainer(tmp_path / "broken", **settings)
    broken.add_callback(Stop(4))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    resumed = run(tmp_path / "broken", resume=True, **settings)
    assert resumed.trials is None and resumed.schedule.entries == whole.schedule.entries
    assert same(delta(tmp_path / "whole"), delta(tmp_path / "broken"))


def test_trials_need_rows_that_can_be_counted(tmp_path):
    with pytest.raises(ConfigError, match="'trials' trains on a share of the data, but the dataset is a stream"):
        trainer(tmp_path, policy="static", head_share="trials", train_dataset=sentences().to_iterable_dataset())


# -- the value of a mask ----------------------------------------------------------------------------------------------


def test_policy_value_reads_its_file_and_says_what_it_found(tmp_path):
    static = run(tmp_path / "static", policy="static", mlp_block=4, max_steps=2)
    series, rng, rows = static.trajectory.series("attribution").until(0), np.random.default_rng(0), []
    for task in range(5):
        for _ in range(8):
            share = rng.random()
            mask = select(rng.random(len(static.table)), static.table, static.n_vectors, share)
            rows.append(Outcome(f"t{task}", series, mask, task - head_share_of(mask, series) + 0.05 * rng.normal()))
    write_outcomes(tmp_path / "outcomes.json", rows)
    done = run(tmp_path / "run", policy="value", outcomes=str(tmp_path / "outcomes.json"), mlp_block=4, max_steps=4)
    said = json.loads((tmp_path / "run" / "trajectory" / "meta.json").read_text())["info"]["gate"]
    assert "R^2 on tasks left out 0.9" in said["0"] and len(set(said.values())) == 1
    ((_, mask),) = done.schedule.entries
    assert head_share_of(mask, done.table) > 0.9


def test_policy_value_without_outcomes_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="policy 'value' needs outcomes"):
        trainer(tmp_path / "run", policy="value")
    with pytest.raises(ConfigError, match="absent.json is no file of outcomes"):
        trainer(tmp_path / "run", policy="value", outcomes="absent.json")
