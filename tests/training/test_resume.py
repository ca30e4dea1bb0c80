"""Going on with a run that ended, was killed, or was asked to stop: the same run, or a clear refusal."""

import os
import shutil
import signal
from functools import cache

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from foresight.bank.delta import WEIGHTS
from foresight.common.errors import CheckpointError, ConfigError, StoppedError
from foresight.common.files import one_writer
from foresight.scoring import corrected
from foresight.training import checkpoint
from foresight.training.resuming import load_scheduler
from support.runs import Stop, delta, run, same, trainer
from support.tiny import pairs, sentences, tiny

RESUMABLE = dict(policy="foresight", save_strategy="steps", save_steps=2, shuffle_dataset=True)


@pytest.fixture(scope="module", autouse=True)
def few_patches():
    """So few that which ones are next depends on those of earlier snapshots."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corrected, "FIRST", 3)
        patch.setattr(corrected, "LATER", 2)
        yield


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    """The run that nothing interrupts, by watch."""
    return cache(lambda watch: run(tmp_path_factory.mktemp("whole"), watch=watch, **RESUMABLE))


@pytest.mark.parametrize("stop", [2, 5, 8, 11])
@pytest.mark.parametrize("watch", ["hold", "full-keep"])
def test_resume_equals_the_uninterrupted_run(tmp_path, whole_run, stop, watch):
    settings, whole = dict(RESUMABLE, watch=watch), whole_run(watch)
    broken = trainer(tmp_path / "broken", **settings)
    broken.add_callback(Stop(stop))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    resumed = run(tmp_path / "broken", resume=True, **settings)
    assert same(delta(whole.run.output), delta(tmp_path / "broken"))
    assert resumed.schedule.entries == whole.schedule.entries
    assert [vars(o) for o in resumed.run.skill_log.outcomes] == [vars(o) for o in whole.run.skill_log.outcomes]
    for a, b in zip(whole.trajectory.snapshots, resumed.trajectory.snapshots, strict=True):
        one, other = (snapshot.scores["attribution"] for snapshot in (a, b))
        assert a.step == b.step and np.array_equal(one.values, other.values)
        assert np.array_equal(one.exact, other.exact, equal_nan=True) and np.isnan(one.exact).any()
    assert same(whole.bank.tensors(whole.run.optimizer), resumed.bank.tensors(resumed.run.optimizer))


def test_incomplete_and_damaged_checkpoints_do_not_count(tmp_path):
    run(tmp_path, policy="static", save_strategy="steps", save_steps=4)
    assert checkpoint.last_complete(tmp_path).name == "checkpoint-12"
    (tmp_path / "checkpoint-12" / checkpoint.SEAL).unlink()
    data = bytearray((tmp_path / "checkpoint-8" / checkpoint.TENSORS).read_bytes())
    data[100] ^= 1
    (tmp_path / "checkpoint-8" / checkpoint.TENSORS).write_bytes(bytes(data))
    assert checkpoint.last_complete(tmp_path).name == "checkpoint-4"
    with pytest.raises(CheckpointError, match="safetensors is damaged"):
        trainer(tmp_path, policy="static").train(resume_from_checkpoint=str(tmp_path / "checkpoint-8"))


def test_limit_keeps_the_newest_complete_ones(tmp_path):
    run(tmp_path, policy="static", save_strategy="steps", save_steps=3, save_total_limit=2)
    kept = sorted(p.name for p in tmp_path.glob("checkpoint-*"))
    assert kept == ["checkpoint-12", "checkpoint-9"]


def test_checkpoint_of_another_model_is_refused(tmp_path):
    run(tmp_path, policy="static", save_strategy="steps", save_steps=6)
    with pytest.raises(CheckpointError, match="belongs to model weights"):
        run(tmp_path, resume=True, policy="static", model=tiny(seed=1))
    with pytest.raises(CheckpointError, match="mlp_block was None and is 4"):
        run(tmp_path, resume=True, policy="static", mlp_block=4)


SAVED = dict(policy="static", save_strategy="steps", save_steps=5, lr_scheduler_type="constant")


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run(folder, **SAVED)
    return folder


@pytest.mark.parametrize("lost", [None, "delta"])
def test_a_finished_run_has_nothing_left_to_do(tmp_path, finished, lost):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    if lost:  # killed between its last checkpoint and its delta
        shutil.rmtree(folder / lost)
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name != "README.md"}
    done = run(folder, resume=True, **SAVED)
    assert done.state.global_step == 12 and same(delta(folder), delta(finished))
    assert all(p.read_bytes() == content for p, content in before.items())
    assert (folder / "delta" / WEIGHTS).read_bytes() == (finished / "delta" / WEIGHTS).read_bytes()


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_anew(tmp_path, finished):
    broken = trainer(tmp_path, **SAVED)
    broken.add_callback(Stop(3))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    (tmp_path / "checkpoint-2").mkdir()  # killed while it was written
    run(tmp_path, resume=True, **SAVED)
    assert same(delta(tmp_path), delta(finished)) and not (tmp_path / "checkpoint-2").exists()


def test_what_is_damaged_or_finished_is_not_begun_anew(tmp_path, finished):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    for path in folder.glob(f"checkpoint-*/{checkpoint.TENSORS}"):
        path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is damaged"):
        run(folder, resume=True, **SAVED)
    for path in folder.glob("checkpoint-*"):
        shutil.rmtree(path)
    with pytest.raises(CheckpointError, match="a finished run without checkpoints"):
        run(folder, resume=True, **SAVED)
    assert same(delta(folder), delta(finished))


def test_nothing_is_written_over(tmp_path, finished):
    folder = tmp_path / "run"
    shutil.copytree(finished, folder)
    with pytest.raises(ConfigError, match="already holds a run"):
        run(folder, **SAVED)
    assert sorted(p.relative_to(folder) for p in folder.rglob("*")) == sorted(
        p.relative_to(finished) for p in finished.rglob("*")
    )


class Terminate(TrainerCallback):
    """Sends SIGTERM to the process within a step."""

    def on_pre_optimizer_step(self, args, state, control, **kwargs):
        if state.global_step == 6:
            os.kill(os.getpid(), signal.SIGTERM)


def test_sigterm_leaves_a_checkpoint_from_which_the_run_goes_on(tmp_path, finished):
    before = signal.getsignal(signal.SIGTERM)
    stopped = trainer(tmp_path, **SAVED)
    stopped.add_callback(Terminate())
    with pytest.raises(StoppedError, match="by SIGTERM after step 7: .*checkpoint-7 is complete") as told:
        stopped.train()
    assert told.value.code == 143 and signal.getsignal(signal.SIGTERM) == before
    assert not (tmp_path / "delta").exists()
    run(tmp_path, resume=True, **SAVED)
    assert same(delta(tmp_path), delta(finished))


def test_a_run_stops_when_its_hours_are_over_and_goes_on(tmp_path, finished):
    for step in (1, 2):
        late = trainer(tmp_path, **SAVED)
        late.stopping.hours = 0.0
        with pytest.raises(StoppedError, match=f"at its limit of 0 hours after step {step}") as told:
            late.train(resume_from_checkpoint=step > 1)
        assert told.value.code == 75
    run(tmp_path, resume=True, **SAVED)
    assert same(delta(tmp_path), delta(finished))


def broken_off(folder, finished, step=5):
    """A run whose last checkpoint is that of a step."""
    shutil.copytree(finished, folder)
    for other in folder.glob("checkpoint-*"):
        if other.name != f"checkpoint-{step}":
            shutil.rmtree(other)
    shutil.rmtree(folder / "delta")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(seed=4), "seed was 3 and is 4"),
        (dict(adam_beta2=0.9), "adam_beta2 was 0.999 and is 0.9"),
        (dict(policy="random"), "policy was 'static' and is 'random'"),
        (dict(per_device_train_batch_size=2), "rows of a step was 4 and is 2"),
        (dict(train_dataset=sentences(40)), "training rows was '.*' and is '.*'"),
        (dict(max_length=8), "max_length was .* and is 8"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_what_may_not_change_is_refused_with_both_values(tmp_path, finished, settings, message):
    broken_off(tmp_path / "run", finished)
    before = {p: p.read_bytes() for p in (tmp_path / "run").rglob("*") if p.is_file()}
    with pytest.raises(CheckpointError, match=message):
        run(tmp_path / "run", resume=True, **{**SAVED, **settings})
    assert all(p.read_bytes() == content for p, content in before.items())


def test_other_contrast_pairs_and_retained_rows_are_refused(tmp_path, monkeypatch):
    settings = {**SAVED, "replay_share": 0.25}
    run(tmp_path / "whole", retained=sentences(16), **settings)
    broken_off(tmp_path / "run", tmp_path / "whole")
    with pytest.raises(CheckpointError, match="retained rows was '.*' and is '.*'"):
        run(tmp_path / "run", resume=True, retained=sentences(16, seed=5), **settings)
    monkeypatch.setattr("support.runs.pairs", lambda: pairs(seed=1))
    with pytest.raises(CheckpointError, match="scored examples was '.*' and is '.*'"):
        run(tmp_path / "run", resume=True, retained=sentences(16), **settings)


def test_what_changes_nothing_may_change(tmp_path, finished):
    broken_off(tmp_path / "run", finished)
    again = dict(per_device_train_batch_size=2, gradient_accumulation_steps=2, logging_steps=1, save_steps=3)
    resumed = run(tmp_path / "run", resume=True, **{**SAVED, **again})
    assert resumed.run.resumed == [] and resumed.state.global_step == 12


@pytest.mark.parametrize("scheduler", ["constant", "linear", "cosine"])
def test_a_new_rate_holds_from_the_checkpoint_on(tmp_path, scheduler):
    settings = {**SAVED, "lr_scheduler_type": scheduler, "logging_steps": 1, "warmup_steps": 2}
    whole = run(tmp_path / "whole", **settings)
    broken = trainer(tmp_path / "run", **settings)
    broken.add_callback(Stop(7))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    resumed = run(tmp_path / "run", resume=True, **{**settings, "learning_rate": 1e-3})
    rates = [
        {e["step"]: e["learning_rate"] for e in one.state.log_history if "learning_rate" in e}
        for one in (whole, resumed)
    ]
    assert all(rates[1][s] == pytest.approx(rates[0][s] * (1 if s <= 5 else 0.1)) for s in range(1, 13))
    assert resumed.run.resumed == [{"step": 5, "changed": {"learning_rate": [1e-2, 1e-3]}}]
    assert not same(delta(tmp_path / "whole"), delta(tmp_path / "run"))
    kept = checkpoint.read_state(tmp_path / "run" / "checkpoint-12")[1]
    assert kept["resumed"] == resumed.run.resumed


def test_a_finished_run_goes_on_when_it_gets_more_steps(tmp_path, finished):
    shutil.copytree(finished, tmp_path / "run")
    longer = run(tmp_path / "run", resume=True, **{**SAVED, "max_steps": 16})
    assert longer.state.global_step == 16 and longer.run.resumed[0]["changed"] == {"max_steps": [12, 16]}
    assert not same(delta(finished), delta(tmp_path / "run"))
    whole = run(tmp_path / "whole", **{**SAVED, "max_steps": 16})
    assert same(delta(tmp_path / "whole"), delta(tmp_path / "run")) and whole.run.resumed == []


def test_rates_that_depend_on_more_than_the_step_cannot_change():
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], 0.1)
    scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    optimizer.param_groups[0]["initial_lr"] = 0.1
    with pytest.raises(ConfigError, match="ReduceLROnPlateau depend on more than the step"):
        load_scheduler(scheduler, optimizer, scheduler.state_dict(), {"learning_rate": [0.1, 0.2]})


def test_two_processes_do_not_train_in_one_folder(tmp_path):
    with one_writer(tmp_path / "run"), pytest.raises(ConfigError, match="another process is at work in .*run"):
        run(tmp_path / "run", **SAVED)
    run(tmp_path / "run", **SAVED)


class Chosen(TrainerCallback):
    """Makes the evaluation after one step the best."""

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        metrics["eval_chosen"] = float(state.global_step == 4)


@pytest.mark.parametrize("limit", [None, 2])
def test_the_best_checkpoint_is_what_a_run_ends_with(tmp_path, limit):
    settings = dict(
        policy="reactive", eval_strategy="steps", eval_steps=2, save_strategy="steps", save_steps=2, remask_every=3,
        load_best_model_at_end=True, metric_for_best_model="chosen", save_total_limit=limit,
    )  # fmt: skip
    shorter = run(tmp_path / "shorter", **{**SAVED, "policy": "reactive", "remask_every": 3, "save_steps": 4})
    done = trainer(tmp_path / "best", eval_dataset=sentences(8), **{**SAVED, **settings})
    done.callback_handler.callbacks.insert(0, Chosen())
    done.train()
    tensors, data = checkpoint.read_state(tmp_path / "shorter" / "checkpoint-4")
    assert done.run.step == data["step"] == 4 and done.schedule.to_json(done.run.numbers) == data["schedule"]
    assert torch.equal(done.bank.vectors, tensors["bank.vectors"])
    kept = delta(tmp_path / "best")
    assert not same(kept, delta(tmp_path / "shorter")) and shorter.run.step == 12
    shutil.rmtree(tmp_path / "best" / "delta")  # killed before it was written
    again = trainer(tmp_path / "best", eval_dataset=sentences(8), **{**SAVED, **settings})
    again.train(resume_from_checkpoint=True)
    assert same(kept, delta(tmp_path / "best")) and again.run.step == 4
