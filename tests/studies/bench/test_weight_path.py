"""The weights of a recorded run are those that it had, and only a recording of this model has them."""

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from foresight.bank.delta import apply_delta
from foresight.common.errors import CheckpointError, TrajectoryError
from foresight.forecasters import FROM_WEIGHTS
from foresight.forecasters.single_weights.extrapolate import forecast_scores
from foresight.forecasters.single_weights.shift import shifted
from foresight.model.components import component_table
from foresight.scoring import make_scorer
from foresight.scoring.probes import ContrastProbe
from foresight.studies.bench.from_weights import RecordedWeights
from foresight.studies.track.recording import Recording
from foresight.studies.track.settings import TrackConfig
from foresight.studies.track.tracker import Tracker, Watched
from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from support.tiny import pairs, sentences, tiny, tiny_tokenizer, tokens

PROBE = ContrastProbe.from_dataset(pairs(8), tiny_tokenizer(), 4)


def record(folder, model=None, keep_weights=True, **settings):
    args = ForesightConfig(
        output_dir=str(folder), use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        disable_tqdm=True, per_device_train_batch_size=4, logging_strategy="no", save_strategy="no", seed=3,
        **{**dict(max_steps=6, policy="full", learning_rate=1e-2), **settings},
    )  # fmt: skip
    run = ForesightTrainer(model=model or tiny(), args=args, train_dataset=sentences(), contrast_dataset=pairs(),
                           processing_class=tiny_tokenizer())  # fmt: skip
    run.args.probe_every, run.args.calibrate = 2, False
    config = TrackConfig(keep_weights=keep_weights, faithfulness=False)
    run.add_callback(Tracker(run, [Watched("own", PROBE)], config))
    run.train()
    return Recording.read(folder / "recording")


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return record(tmp_path_factory.mktemp("kept"))


def path_of(recording, **changes):
    model = tiny(**changes)
    return RecordedWeights(recording, model, component_table(model)), model


def test_base_and_change_are_the_model_of_the_step(recording):
    path, model = path_of(recording)
    assert path.steps == [0, 2, 4, 6]
    assert all(not change.any() for change in path.change(0).values())
    for step in (2, 6):
        expected = apply_delta(tiny(), recording.weights(step))
        with torch.no_grad(), shifted(model, path.change(step)):
            assert torch.allclose(model(tokens()).logits, expected(tokens()).logits, atol=1e-5)


def test_a_masked_run_and_a_transposed_model_too(tmp_path):
    done = record(tmp_path, tiny("gpt2"), policy="static", budget=0.2)
    path, model = path_of(done, family="gpt2")
    expected = apply_delta(tiny("gpt2"), done.weights(4))
    assert 0 < sum(int((change != 0).sum()) for change in path.change(4).values()) < 0.3 * path.table.model_parameters
    with torch.no_grad(), shifted(model, path.change(4)):
        assert torch.allclose(model(tokens()).logits, expected(tokens()).logits, atol=1e-5)


def test_a_bfloat16_run_keeps_what_its_weights_could_not(tmp_path):
    done = record(tmp_path, tiny(dtype=torch.bfloat16), learning_rate=1e-5)
    path, model = path_of(done, dtype=torch.bfloat16)
    size = max(float(change.abs().max()) for change in path.change(6).values())
    assert 1e-6 < size < 1e-4
    found = forecast_scores(
        "displaced", model, path.table, path, PROBE, make_scorer("attribution"), 4, 2, np.full(6, 1e-5)
    )
    assert np.isfinite(found).all() and next(model.parameters()).dtype == torch.bfloat16


@pytest.mark.parametrize("name", FROM_WEIGHTS)
def test_forecasts_from_a_recording_look_at_nothing_later(recording, tmp_path, name, monkeypatch):
    path, model = path_of(recording)
    rates = np.linspace(1e-2, 1e-3, 6)
    asked = (path.table, path, PROBE, make_scorer("attribution"), 4, 2, rates)
    found = forecast_scores(name, model, *asked)
    elsewhere = tmp_path / "poison.safetensors"
    elsewhere.write_bytes(b"not weights at all")
    where = path._file
    monkeypatch.setattr(path, "_file", lambda step: elsewhere if step > 4 else where(step))
    assert np.array_equal(forecast_scores(name, model, *asked), found) and (found > 0).any()
    with pytest.raises(CheckpointError, match="damaged or missing"):
        path.change(6)


def test_recordings_without_weights_or_of_another_model_are_refused(recording, tmp_path):
    with pytest.raises(TrajectoryError, match="recorded without weights"):
        path_of(record(tmp_path, keep_weights=False, max_steps=2))
    with pytest.raises(TrajectoryError, match="model with weights"):
        path_of(recording, seed=1)
    model = tiny()
    with pytest.raises(TrajectoryError, match="model with components"):
        RecordedWeights(recording, model, component_table(model, 4))


def test_vectors_that_do_not_fit_are_refused(recording, tmp_path, monkeypatch):
    path, _ = path_of(recording)
    tensors = load_file(path._file(2))
    name = next(key for key in tensors if key.endswith(".index"))
    tensors[name] = tensors[name] + 1000
    save_file(tensors, tmp_path / "wrong.safetensors")
    monkeypatch.setattr(path, "_file", lambda step: tmp_path / "wrong.safetensors")
    with pytest.raises(CheckpointError, match="do not fit this model"):
        path.change(2)
