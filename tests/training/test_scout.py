"""Scouting: it sees where the weights go, leaves the run as it found it, and its scores outlive a crash."""

import math

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from foresight.common.errors import CheckpointError, ConfigError, NonFiniteError
from foresight.policies.catalogue import make_policy
from foresight.policies.policy import View
from foresight.policies.scouted import Scouted, Scouting
from foresight.scoring import make_scorer
from foresight.scoring.corrected import error
from foresight.training import checkpoint
from foresight.training.config import ForesightConfig
from foresight.training.scout import planned_rates, refuse_scout, scout
from support.runs import Stop, config, delta, run, same, state_of, trainer, unchanged
from support.tiny import sentences, tiny

POLICIES = ("probing", "predicted", "displaced")


def dropping():
    """A model that draws random numbers in every training step."""
    return tiny("gpt2", resid_pdrop=0.1, embd_pdrop=0.1)


def scout_for(held):
    """Scores, and what they have cost, of a trainer that has not begun to train."""
    scout(held)
    return held.policy.scouted, held.run.scouting


@pytest.mark.parametrize("policy", ["probing", "predicted"])
def test_the_run_afterwards_is_that_of_its_schedule(tmp_path, policy):
    """Data order, dropout, moments and weights: a run that is given the mask and never scouts ends in the same bits."""
    settings = dict(shuffle_dataset=True, scout_share=0.2, max_steps=6, logging_steps=1)
    scouted = run(tmp_path / "scouted", model=dropping(), policy=policy, **settings)
    schedule = str(tmp_path / "scouted" / "schedule.json")
    replayed = run(tmp_path / "replayed", model=dropping(), policy="replay", mask_schedule=schedule, **settings)
    assert scouted.run.scouting is not None and replayed.run.scouting is None
    assert same(delta(tmp_path / "scouted"), delta(tmp_path / "replayed"))
    losses = [[entry["loss"] for entry in done.state.log_history if "loss" in entry] for done in (scouted, replayed)]
    assert losses[0] == losses[1] and len(scouted.schedule.entries) == 1


@pytest.mark.parametrize(
    ("policy", "dtype"),
    [("probing", torch.float32), ("predicted", torch.float32), ("predicted", torch.bfloat16)],
)
def test_leaves_everything_as_it_was(tmp_path, policy, dtype):
    held = trainer(tmp_path, tiny(dtype=dtype), policy=policy, bf16=dtype == torch.bfloat16)
    before = state_of(held)
    scores, cost = scout_for(held)
    unchanged(before, held)
    assert scores.shape == (len(held.table),) and scores.dtype == np.float64 and (scores > 0).any()
    assert list(tmp_path.iterdir()) == []
    again, _ = scout_for(held)
    assert np.array_equal(scores, again)


def test_probing_scores_the_model_that_was_trained_on_the_share(tmp_path):
    """The scout is plain full training of the rows at its own rate; scores are corrected as snapshots are."""
    settings = dict(scout_share=0.25, scout_learning_rate=5e-3, calibrate=False)
    scores, cost = scout_for(trainer(tmp_path / "scout", policy="probing", **settings))
    assert (cost.rows, cost.steps, cost.learning_rate) == (12, 3, 5e-3)
    held = trainer(tmp_path / "a", policy="static", calibrate=False)
    picked = sentences().select(np.random.default_rng([held.args.seed]).permutation(48)[:12])
    plain = run(tmp_path / "plain", policy="full", train_dataset=picked, max_steps=3, learning_rate=5e-3,
                lr_scheduler_type="constant")  # fmt: skip
    probe = held.run.watcher.examples.take(0, held.args.probe_examples)
    expected = make_scorer("attribution").score(plain.model, plain.table, probe).values
    start = make_scorer("attribution").score(tiny(), plain.table, probe).values
    assert np.allclose(scores, np.abs(expected), rtol=1e-3, atol=1e-4 * np.abs(expected).max())
    assert not np.allclose(scores, np.abs(start), rtol=0.05)


def test_the_correction_is_that_of_the_first_snapshot(tmp_path):
    held = trainer(tmp_path / "scout", policy="probing")
    corrected, _ = scout_for(held)
    held.args.calibrate = False
    plain, _ = scout_for(held)
    first = run(tmp_path / "static", policy="static", max_steps=1).trajectory.snapshots[0]
    off = error(first.scores["attribution"])
    assert np.abs(off).max() > 0
    moved = np.abs(corrected - plain), np.abs(corrected + plain)  # a sign may have changed
    assert np.any([np.isclose(found, np.abs(off), rtol=1e-3, atol=1e-6) for found in moved], axis=0).all()


def test_policies_differ_in_how_they_score(tmp_path):
    held, found = trainer(tmp_path, policy="probing", scout_share=0.5), {}
    for held.args.policy in POLICIES:
        found[held.args.policy], _ = scout_for(held)
    for one, other in (("probing", "displaced"), ("predicted", "displaced")):
        assert not np.allclose(found[one], found[other], rtol=0.05)


def test_the_default_rate_is_a_tenth_and_a_share_is_one_full_step_at_least(tmp_path):
    held = trainer(tmp_path, policy="probing", gradient_accumulation_steps=2)
    _, cost = scout_for(held)
    assert (cost.rows, cost.steps) == (8, 1) and cost.learning_rate == pytest.approx(1e-3)
    weights = held.table.n_vectors * held.table.d_model
    assert cost.bytes == 4 * 4 * weights and cost.training_seconds > 0 and cost.scoring_seconds > 0


def test_the_cost_is_logged_and_in_the_run_info(tmp_path):
    done = run(tmp_path, policy="predicted", max_steps=2)
    logged = {key: value for entry in done.state.log_history for key, value in entry.items() if "scouting" in key}
    assert logged == done.run.scouting.logged() and len(logged) == 6
    assert Scouting(**done.trajectory.info["scouting"]) == done.run.scouting and len(done.trajectory) == 0


@pytest.mark.parametrize(
    "settings",
    [dict(), dict(lr_scheduler_type="cosine", warmup_steps=3), dict(lr_scheduler_type="constant", max_steps=5),
     dict(max_steps=-1, num_train_epochs=2, gradient_accumulation_steps=5)],
    ids=str,
)  # fmt: skip
def test_planned_rates_are_those_of_the_run(tmp_path, settings):
    rates = []

    class Watch(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, optimizer, **kwargs):
            rates.append(optimizer.param_groups[0]["lr"])

    held = trainer(tmp_path, policy="random", **settings)
    held.add_callback(Watch())
    held.train()
    assert np.allclose(planned_rates(held.args, held.state.max_steps), rates)


def test_a_resumed_run_has_the_scores_and_does_not_scout_again(tmp_path):
    settings = dict(policy="predicted", save_strategy="steps", save_steps=3, max_steps=6)
    whole = run(tmp_path / "whole", **settings)
    broken = trainer(tmp_path / "broken", **settings)
    broken.add_callback(Stop(4))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    resumed = run(tmp_path / "broken", resume=True, **settings)
    assert resumed.run.scouting is None and np.array_equal(resumed.policy.scouted, whole.policy.scouted)
    assert same(delta(tmp_path / "whole"), delta(tmp_path / "broken"))
    tensors, _ = checkpoint.read_state(tmp_path / "whole" / "checkpoint-3")
    assert np.array_equal(tensors["policy.scouted"].numpy(), whole.policy.scouted)


def test_works_on_plain_text(tmp_path):
    done = run(tmp_path, policy="predicted", contrast=False, max_steps=2)
    assert done.run.watcher.scorer.name == "step_attribution" and len(done.schedule.entries) == 1


def test_a_scout_that_diverges_leaves_the_model_alone(tmp_path):
    held = trainer(tmp_path, policy="probing", scout_share=0.5, scout_learning_rate=1e30)
    before = state_of(held)
    with pytest.raises(NonFiniteError, match="learning"):
        scout_for(held)
    unchanged(before, held)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(scout_share=0), "scout_share is 0"),
        (dict(scout_share=1.5), "scout_share is 1.5"),
        (dict(scout_learning_rate=0), "scout_learning_rate is 0"),
        (dict(scout_learning_rate=math.nan), "scout_learning_rate is nan"),
        (dict(scorer="attribution", contrast=False), "needs contrast pairs"),
    ],
    ids=str,
)
def test_bad_settings_are_refused_before_any_work(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        trainer(tmp_path / "run", policy="predicted", **settings)
    assert not (tmp_path / "run" / "trajectory").exists()


def test_streams_plateaus_and_several_processes_are_refused(tmp_path, monkeypatch):
    plateau = dict(lr_scheduler_type="reduce_lr_on_plateau")
    with pytest.raises(ConfigError, match="lr_scheduler_type 'reduce_lr_on_plateau' decides on the way"):
        args = config(tmp_path, policy="probing", eval_strategy="steps", **plateau)
        refuse_scout(args, sentences())
    with pytest.raises(ConfigError, match="the dataset is a stream"):
        trainer(tmp_path, policy="probing", train_dataset=sentences().to_iterable_dataset())
    for check in ("sharding.refuse_world", "ranks.refuse_unequal_settings"):
        monkeypatch.setattr(f"foresight.training.{check}", lambda args: None)
    monkeypatch.setattr(ForesightConfig, "world_size", 2)
    with pytest.raises(ConfigError, match="'probing' scouts, which runs in one process"):
        trainer(tmp_path, policy="probing")


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_without_scouting_says_so(tmp_path, name):
    table = trainer(tmp_path, policy="random").table
    policy, view = make_policy(name, "components"), View(table, 200, step=0, total_steps=10)
    with pytest.raises(ConfigError, match=f"policy '{name}' has no scores yet"):
        policy.mask(view)
    assert isinstance(policy, Scouted) and policy.state() == ({}, {})
    given = make_policy(name, "components")
    given.scouted = np.arange(len(table), dtype=float)
    policy.load_state(*given.state())
    assert policy.mask(view) == given.mask(view) and len(table) - 1 in given.mask(view).components
    for arrays in ({}, {"other": np.ones(3)}, {"scouted": np.ones((2, 2))}):
        with pytest.raises(CheckpointError, match="has one array of scores"):
            policy.load_state(arrays, {})
