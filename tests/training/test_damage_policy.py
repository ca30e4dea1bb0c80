"""Target `damage` in a run: what its weight does, where retained data come from, what it costs."""

import json

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import TrainerCallback

from foresight.common.errors import ConfigError, DataError
from foresight.scoring.scorer import BENEFIT, DAMAGE
from foresight.training.trainer import ForesightTrainer
from foresight.trajectory.trajectory import Trajectory
from support.planted_damage import BAD, GOOD, RETAINED, TARGET, A, B, harmful_model, rows
from support.runs import config
from support.tiny import sentences, tiny, tiny_tokenizer

SETTINGS = dict(
    use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", disable_tqdm=True, max_steps=8,
    per_device_train_batch_size=4, learning_rate=1e-2, logging_strategy="steps", logging_steps=50, save_strategy="no",
    seed=3, budget=0.2, remask_every=3, probe_examples=6, probe_batch_size=4,
)  # fmt: skip
OTHER = sentences(12, seed=7)


def trainer(folder, model=None, train=None, retained=OTHER, **settings):
    return ForesightTrainer(
        model=tiny() if model is None else model,
        args=config(folder, SETTINGS, **settings),
        train_dataset=sentences() if train is None else train,
        retained_dataset=retained,
        processing_class=tiny_tokenizer(),
    )


def run(folder, resume=None, **settings):
    made = trainer(folder, **settings)
    made.train(resume_from_checkpoint=resume)
    return made


def weighing(damage_weight):
    return dict(policy="reactive", target="damage", target_params={"damage_weight": damage_weight})


def same_weights(a, b):
    a, b = a.bank.merged_state_dict(), b.bank.merged_state_dict()
    return all(torch.equal(a[k], b[k]) for k in a)


# -- planted harm -----------------------------------------------------------------------------------------------------


def planted(folder, **settings):
    """A budget of one block of neurons: that which harms, or that which does not."""
    model = harmful_model()
    budget = 6 * 32 / sum(p.numel() for p in model.parameters()) + 1e-4
    return run(folder, model=model, train=rows(TARGET, GOOD), retained=rows(RETAINED, BAD), mlp_block=2, budget=budget,
               learning_rate=2e-3, **settings)  # fmt: skip


@torch.no_grad()
def losses(model):
    logits = model(torch.tensor([[TARGET], [RETAINED]])).logits[:, 0].log_softmax(-1)
    return -logits[0, GOOD].item(), -logits[1, BAD].item()


def test_what_harms_by_construction_is_taken_at_lambda_zero_and_avoided_above(tmp_path):
    before = losses(harmful_model())
    greedy = planted(tmp_path / "0", **weighing(0.0))
    careful = planted(tmp_path / "1", **weighing(1.0))
    assert {n for _, mask in greedy.schedule.entries for n in mask.names(greedy.table)} == {B}
    assert {n for _, mask in careful.schedule.entries for n in mask.names(careful.table)} == {A}
    (target_0, retained_0), (target_1, retained_1) = losses(greedy.model), losses(careful.model)
    assert target_0 < before[0] - 1 and target_1 < before[0] - 1
    assert retained_0 > before[1] + 1 and retained_1 == pytest.approx(before[1], abs=1e-3)


def test_replay_goes_with_it(tmp_path):
    done = planted(tmp_path, policy="reactive", target="damage", replay_share=0.25)
    assert {n for _, mask in done.schedule.entries for n in mask.names(done.table)} == {A}


# -- lambda 0, control, cost ------------------------------------------------------------------------------------------


def test_lambda_zero_is_the_utility_policy_exactly(tmp_path):
    utility = run(
        tmp_path / "utility",
        policy="reactive",
        target="utility",
        target_params={"preconditioner": "moves"},
        retained=None,
    )
    zero = run(tmp_path / "zero", **weighing(0.0))
    assert utility.schedule.entries == zero.schedule.entries and same_weights(utility, zero)
    assert utility.trajectory.scorers == (BENEFIT,) and zero.trajectory.scorers == (BENEFIT, DAMAGE)
    np.testing.assert_array_equal(utility.trajectory.values(BENEFIT), zero.trajectory.values(BENEFIT))


def test_persistence_equals_the_re_measured_control_and_a_trend_is_something_else(tmp_path):
    settings = dict(weighing(1.0), mlp_block=2, remask_every=2, probe_examples=4)
    control = run(tmp_path / "control", **settings)
    forecast = dict(settings, policy="foresight", gate=False, watch_steps=2, probe_every=2, horizon=6)
    held = run(tmp_path / "held", forecaster="persistence", **forecast)
    trend = run(tmp_path / "trend", forecaster="drift", **forecast)
    assert control.trajectory.steps.tolist() == [0, 2, 4, 6]
    assert control.schedule.entries == held.schedule.entries and same_weights(control, held)
    assert trend.schedule.entries != control.schedule.entries


def test_measured_at_the_cadence_and_charged(tmp_path):
    done = run(tmp_path, policy="reactive", target="damage")
    assert done.trajectory.steps.tolist() == [0, 3, 6]
    cost = [entry for entry in done.state.log_history if "foresight/damage_passes" in entry][-1]
    assert cost["foresight/benefit_passes"] == cost["foresight/damage_passes"] == 3 * 2
    info = Trajectory.read(tmp_path / "trajectory").info
    assert info["retained_source"] == "data" and info["target_params"] is None
    assert info["cost"]["damage_passes"] == 6
    assert 0 < info["cost"]["damage_seconds"] < info["cost"]["scoring_seconds"] == done.run.watcher.seconds


def test_resume_equals_the_uninterrupted_run(tmp_path):
    settings = dict(policy="reactive", target="damage", retained_source={"examples": 9, "tokens": 5}, retained=None,
                    save_strategy="steps", save_steps=4, mlp_block=2)  # fmt: skip
    whole = run(tmp_path / "whole", **settings)

    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 5:
                raise RuntimeError("power cut")

    broken = trainer(tmp_path / "broken", **settings)
    broken.add_callback(Stop())
    with pytest.raises(RuntimeError):
        broken.train()
    spent = broken.run.watcher.scorer.damage_seconds
    resumed = run(tmp_path / "broken", resume=True, **settings)
    assert resumed.schedule.entries == whole.schedule.entries and same_weights(whole, resumed)
    assert resumed.run.watcher.scorer.damage_seconds > spent > 0
    for name in (BENEFIT, DAMAGE):
        np.testing.assert_array_equal(whole.trajectory.values(name), resumed.trajectory.values(name))


# -- where retained data come from ------------------------------------------------------------------------------------


def test_text_of_the_base_model_is_kept_in_the_runs_folder(tmp_path):
    settings = dict(policy="reactive", target="damage", retained_source={"examples": 9, "tokens": 5})
    done = run(tmp_path, retained=None, **settings)
    (path,) = tmp_path.glob("retained-*.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    assert len(lines) == 9 == len(done.run.retained.rows) and done.run.retained.seconds > 0
    assert done.run.retained.rows[:]["input_ids"] == [line["input_ids"] for line in lines]
    assert done.run.watcher.seconds > done.run.retained.seconds
    other = trainer(tmp_path / "prompts", retained=Dataset.from_dict({"text": ["w3 w4", "w5"]}), **settings)
    assert {tuple(row[:2]) for row in other.run.retained.rows["input_ids"][::2]} == {(3, 4)}


def test_bad_settings(tmp_path):
    with pytest.raises(ConfigError, match="needs to know what is to be kept"):
        trainer(tmp_path, policy="reactive", target="damage", retained=None)
    with pytest.raises(ConfigError, match="has its own scores, not scorer 'gradient'; leave it at 'auto'"):
        trainer(tmp_path, policy="reactive", target="damage", scorer="gradient")
    with pytest.raises(ConfigError, match="unknown retained_source 'activation'"):
        trainer(tmp_path, policy="reactive", target="damage", retained_source="activation")
    with pytest.raises(ConfigError, match="damage_weight is -1.0; expected a number >= 0"):
        trainer(tmp_path, **weighing(-1.0))
    with pytest.raises(ConfigError, match="damage_weight is nan"):
        trainer(tmp_path, **weighing(float("nan")))
    with pytest.raises(ConfigError, match="retained_source.tokens is 0"):
        trainer(tmp_path, policy="reactive", target="damage", retained_source={"tokens": 0})
    with pytest.raises(DataError, match="no column prompt or text to be continued; it has words"):
        trainer(
            tmp_path,
            policy="reactive",
            target="damage",
            retained_source="base",
            retained=Dataset.from_dict({"words": ["a"]}),
        )
    empty = Dataset.from_dict({"input_ids": [[3, 4]], "labels": [[-100, -100]]})
    with pytest.raises(DataError):
        trainer(tmp_path, policy="reactive", target="damage", retained=empty)
