"""Policy `foresight` in a run says at every decision whether it forecasts and why, also after resuming."""

import json

from foresight.training.trainer import ForesightTrainer
from foresight.trajectory.trajectory import Trajectory
from support.runs import config
from support.tiny import pairs, sentences, tiny, tiny_tokenizer

SETTINGS = dict(
    use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", disable_tqdm=True, max_steps=16,
    per_device_train_batch_size=4, learning_rate=1e-2, logging_strategy="steps", logging_steps=50, save_steps=9,
    seed=3, budget=0.2, watch_steps=4, remask_every=4, probe_every=2, probe_examples=6, probe_batch_size=4,
)  # fmt: skip


def run(folder, resume=None, contrast=12, **settings):
    made = ForesightTrainer(
        model=tiny(),
        args=config(folder, SETTINGS, **settings),
        train_dataset=sentences(),
        contrast_dataset=pairs(contrast),
        processing_class=tiny_tokenizer(),
    )
    made.train(resume_from_checkpoint=resume)
    return made


def logged(done, key):
    return [(entry["step"], entry[key]) for entry in done.state.log_history if key in entry]


def test_a_gated_run_explains_every_decision(tmp_path):
    past = [str(run(tmp_path / f"past{seed}", policy="full", record=True, seed=seed).run.output / "trajectory")
            for seed in (1, 2)]  # fmt: skip
    done = run(tmp_path / "gated", history=past)
    said = json.loads((tmp_path / "gated" / "trajectory" / "meta.json").read_text())["info"]["gate"]
    assert list(said) == ["4", "8", "12"] and all("holds " in words or "forecasts" in words for words in said.values())
    # Both past runs are of this very task: with no other group to learn from, they are no evidence, but a ceiling.
    assert "0 groups of recorded runs" in said["12"] and "two runs of one group" in said["12"]
    assert [step for step, _ in logged(done, "foresight/gate")] == [4, 8, 12]
    assert set(dict(logged(done, "foresight/gate")).values()) <= {0.0, 1.0}
    assert logged(done, "foresight/skill")  # forecasts are judged whether they are believed or not


def test_a_resumed_run_decides_and_says_the_same(tmp_path):
    whole = run(tmp_path / "run")
    said = Trajectory.read(tmp_path / "run" / "trajectory").info["gate"]
    resumed = run(tmp_path / "run", resume=str(tmp_path / "run" / "checkpoint-9"))
    assert Trajectory.read(tmp_path / "run" / "trajectory").info["gate"] == said
    assert [(s, m.hash) for s, m in resumed.schedule.entries] == [(s, m.hash) for s, m in whole.schedule.entries]


def test_believing_persistence_is_being_reactive(tmp_path):
    """Every snapshot has the same examples, too few to tell what is noise."""
    settings = dict(contrast=6, probe_examples=6)
    believing = run(tmp_path / "believing", forecaster="persistence", gate=False, **settings)
    reactive = run(tmp_path / "reactive", policy="reactive", **settings)
    assert believing.schedule.entries == reactive.schedule.entries
    assert "gate" not in Trajectory.read(tmp_path / "believing" / "trajectory").info
