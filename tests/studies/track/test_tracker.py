"""The tracker: it records the model that is in effect, changes nothing of the run, and survives being broken off."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from foresight.bank.delta import apply_delta, read_info
from foresight.common.errors import ConfigError, TrajectoryError, UnknownNameError
from foresight.scoring import make_scorer
from foresight.scoring.edges import edge_scores
from foresight.scoring.probes import ContrastProbe, TextProbe
from foresight.studies.circuits.faithfulness import circuit_drops
from foresight.studies.track.recording import Recording
from foresight.studies.track.settings import TrackConfig
from foresight.studies.track.tracker import Tracker, Watched
from foresight.tasks.evaluation import HeldOut
from foresight.training.checks import only_taken
from foresight.training.config import ForesightConfig
from foresight.training.export import export
from foresight.training.trainer import ForesightTrainer
from foresight.trajectory.metrics import top_k
from support.tiny import pairs, sentences, tiny, tiny_tokenizer


def trainer(folder, model=None, **settings):
    args = ForesightConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        disable_tqdm=True, per_device_train_batch_size=4, learning_rate=1e-2, logging_strategy="no", seed=3,
        **only_taken({**dict(max_steps=7, policy="full", budget=0.2, save_strategy="no"), **settings}),
    )  # fmt: skip
    return ForesightTrainer(
        model=model or tiny(), args=args, train_dataset=sentences(), contrast_dataset=pairs(),
        processing_class=tiny_tokenizer(),
    )  # fmt: skip


def probe(seed=0):
    return ContrastProbe.from_dataset(pairs(8, seed), tiny_tokenizer(), 4)


def tracked(folder, resume=None, callback=None, run=None, probes=None, every=3, budget=0.2, calibrate=True, **config):
    run = run or trainer(folder)
    run.args.probe_every, run.args.budget, run.args.calibrate = every, budget, calibrate
    probes = probes or {"own": probe(), "other": probe(1)}
    tasks = [Watched(name, p, sentences(12, 5) if name == "own" else None) for name, p in probes.items()]
    tracker = Tracker(run, tasks, TrackConfig(**config), {"about": "test"})
    run.add_callback(tracker)
    if callback:
        run.add_callback(callback)
    run.train(resume_from_checkpoint=resume)
    return tracker


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A run under full training with edges and kept weights."""
    folder = tmp_path_factory.mktemp("kept")
    config = dict(scorers=["attribution", "gradient_activation"], edges_every=2, top_edges=20, keep_weights=True)
    return tracked(folder, **config)


def at(tracker, step):
    """A plain model with the weights of a snapshot."""
    return apply_delta(tiny(), tracker.recording.weights(step))


def test_takes_snapshots_at_the_cadence_at_the_start_and_at_the_end(kept):
    assert kept.recording.steps == Recording.read(kept.folder).steps == [0, 3, 6, 7]
    assert kept.recording.head.info == {"about": "test"}


@pytest.mark.parametrize("step", [0, 6])
def test_scores_the_weights_in_effect(kept, step):
    model, table = at(kept, step), kept.trainer.table
    for seed, task in enumerate(("own", "other")):
        for name in ("attribution", "gradient_activation"):
            expected = make_scorer(name).samples(model, table, probe(seed))
            assert np.allclose(kept.recording.samples(step, task, name), expected, atol=1e-4, rtol=1e-3)


def test_kept_weights_can_be_exported(kept, tmp_path):
    assert read_info(kept.recording.weights(6))["dtype"] == "float32"
    assert {p.name for p in export(kept.recording.weights(6), "delta", tmp_path / "x").iterdir()} == {
        "delta.json", "delta.safetensors"
    }  # fmt: skip


def test_measures_the_weights_in_effect(kept):
    expected = HeldOut(tiny_tokenizer(), sentences(12, 5)).measure(at(kept, 6))
    found = kept.recording.metrics(6).tasks
    assert found.keys() == {"own"} and found["own"]["loss"] == pytest.approx(expected["loss"], rel=1e-4)
    assert found["own"]["loss"] != pytest.approx(kept.recording.metrics(0).tasks["own"]["loss"], rel=1e-2)


def test_records_edges_at_their_own_cadence(kept):
    assert [kept.recording.edges(step) is not None for step in kept.recording.steps] == [True, False, True, False]
    expected = edge_scores(at(kept, 6), kept.trainer.table, probe(1), 5, top=20)
    rows = [row for row in kept.recording.edges(6).to_pylist() if row["task"] == "other"]
    assert len(rows) == 20 and rows[0]["score"] == pytest.approx(float(expected.score[0]), rel=1e-2)
    pairs = {(row["source"], row["destination"]) for row in rows}
    assert len(pairs & set(expected.pairs)) >= 18  # near ties may change places


def test_tests_every_circuit_on_every_model_if_weights_are_kept(kept):
    recording, steps = kept.recording, kept.recording.steps
    circuits = [top_k(scores, recording.head.circuit) for scores in recording.magnitudes("own", "attribution")]
    for step in steps:
        found, drops = recording.stability(step)
        assert found == steps and drops["own"].shape == (8, len(steps) + 1)
        expected = circuit_drops(at(kept, step), kept.trainer.table, probe(), circuits)
        assert np.allclose(drops["own"], expected, atol=1e-4)


def test_tests_earlier_circuits_while_it_runs_otherwise(kept, tmp_path):
    recording = tracked(tmp_path).recording
    for number, step in enumerate(recording.steps, 1):
        found, drops = recording.stability(step)
        assert found == recording.steps[:number]
        whole = kept.recording.stability(step)[1]
        for task, values in drops.items():
            assert np.allclose(values[:, :-1], whole[task][:, :number], atol=1e-4)


@pytest.mark.parametrize("policy", ["full", "static"])
def test_changes_nothing_of_the_run(kept, tmp_path, policy):
    plain = trainer(tmp_path / "plain", policy=policy)
    plain.train()
    watched = (
        kept if policy == "full" else tracked(tmp_path / "watched", run=trainer(tmp_path / "watched", policy=policy))
    )
    a, b = (load_file(folder / "delta" / "delta.safetensors") for folder in (tmp_path / "plain", watched.folder.parent))
    assert a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
    model = watched.trainer.model
    assert not any(model.get_submodule(target.module)._forward_pre_hooks for target in watched.trainer.table.targets)


def test_keeps_account_of_its_time(kept):
    seconds = [kept.recording.metrics(step) for step in kept.recording.steps]
    assert all(0 < m.tracking_seconds <= m.seconds for m in seconds)
    assert all(a.seconds < b.seconds for a, b in zip(seconds[:-1], seconds[1:], strict=True))
    assert kept.replay_seconds > 0


class Stop(TrainerCallback):
    """Ends the run after a step: as a crash would, or as the user wished."""

    def __init__(self, step, crash):
        self.step, self.crash = step, crash

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            if self.crash:
                raise RuntimeError("power cut")
            control.should_training_stop = True


@pytest.mark.parametrize("keep_weights", [False, True])
def test_a_resumed_run_has_the_recording_of_the_uninterrupted_one(tmp_path, keep_weights):
    settings = dict(max_steps=5, save_strategy="steps", save_steps=3)
    config = dict(every=2, keep_weights=keep_weights)
    whole = tracked(tmp_path / "whole", run=trainer(tmp_path / "whole", **settings), **config)
    with pytest.raises(RuntimeError, match="power cut"):
        tracked(tmp_path / "cut", run=trainer(tmp_path / "cut", **settings), callback=Stop(4, True), **config)
    assert Recording.read(tmp_path / "cut" / "recording").steps == [0, 2, 4]
    again = trainer(tmp_path / "cut", **settings)
    tracked(tmp_path / "cut", run=again, resume=True, **config)  # from step 3: the snapshot of 4 is taken anew
    a, b = Recording.read(whole.folder), Recording.read(again.run.output / "recording")
    assert a.steps == b.steps == [0, 2, 4, 5]
    for step in a.steps:
        for task in a.head.tasks:
            assert np.array_equal(a.samples(step, task, "attribution"), b.samples(step, task, "attribution"))
        assert a.metrics(step).tasks == b.metrics(step).tasks
        (steps_a, drops_a), (steps_b, drops_b) = a.stability(step), b.stability(step)
        assert steps_a == steps_b and all(np.array_equal(drops_a[task], drops_b[task]) for task in drops_a)
    spent = [b.metrics(step).seconds for step in b.steps]
    assert spent == sorted(spent)


def test_a_run_that_stops_early_has_its_last_step(tmp_path):
    assert tracked(tmp_path, callback=Stop(4, False)).recording.steps == [0, 3, 4]


def test_corrects_where_there_are_pairs(tmp_path, kept):
    errors = kept.recording.head.errors
    assert errors.keys() == {"own/attribution", "other/attribution"}
    assert all(len(one) == len(kept.trainer.table) and any(one) for one in errors.values())
    assert tracked(tmp_path, calibrate=False).recording.head.errors == {}


def test_follows_plain_text(tmp_path):
    run = trainer(tmp_path)
    text = {"own": TextProbe.from_dataset(run.train_dataset, 4, 8)}
    recording = tracked(tmp_path, run=run, probes=text, scorers=["gradient_activation"]).recording
    assert recording.samples(7, "own", "gradient_activation").shape == (8, len(run.table))
    assert recording.stability(7)[1]["own"].shape == (8, 5)


def test_refuses_what_cannot_be_tracked(tmp_path, monkeypatch):
    with pytest.raises(UnknownNameError, match="did you mean 'attribution'"):
        tracked(tmp_path / "a", scorers=["atribution"])
    with pytest.raises(ConfigError, match="'movement' gives 1 rows on the probe of 'own'; at least 4"):
        tracked(tmp_path / "c", scorers=["movement"])
    run = trainer(tmp_path / "d")
    monkeypatch.setattr(type(run.args), "world_size", 2)
    with pytest.raises(ConfigError, match="one process, but this is one of 2"):
        tracked(tmp_path / "d", run=run)


def test_refuses_to_continue_another_recording(tmp_path):
    settings = dict(save_strategy="steps", save_steps=1, max_steps=3)
    with pytest.raises(RuntimeError):
        tracked(tmp_path, run=trainer(tmp_path, **settings), callback=Stop(2, True))
    with pytest.raises(TrajectoryError, match=r"recorded with circuit \d+, but this run has \d+"):
        tracked(tmp_path, run=trainer(tmp_path, **settings), resume=True, budget=0.4)
    (tmp_path / "recording" / "recording.json").unlink()
    with pytest.raises(TrajectoryError, match="holds no recording"):
        tracked(tmp_path, run=trainer(tmp_path, **settings), resume=True)
