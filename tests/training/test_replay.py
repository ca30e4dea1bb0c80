"""Replay: the share of every batch, no step more, the same rows for the same seed, and nothing at all at share 0."""

from collections import Counter
from types import SimpleNamespace

import pytest
import torch
from accelerate.data_loader import SeedableRandomSampler
from datasets import Dataset
from safetensors.torch import load_file
from transformers import TrainerCallback

from foresight.common.errors import ConfigError, DataError
from foresight.training.retention import ReplaySampler, retained_rows, with_retained
from foresight.training.trainer import ForesightTrainer
from support.runs import config
from support.tiny import pairs, sentences, tiny, tiny_tokenizer

SETTINGS = dict(
    use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", disable_tqdm=True, max_steps=12,
    per_device_train_batch_size=4, learning_rate=1e-2, logging_strategy="no", save_strategy="no", seed=3, budget=0.2,
    probe_every=2, remask_every=3, probe_examples=6,
)  # fmt: skip
RETAINED = Dataset.from_dict({"text": [f"w{60 - i % 3} w{i + 3} w{i + 4}" for i in range(10)]})


def trainer(folder, retained=RETAINED, rows=32, **settings):
    return ForesightTrainer(
        model=tiny(),
        args=config(folder, SETTINGS, **settings),
        train_dataset=sentences(rows),
        contrast_dataset=pairs(),
        retained_dataset=retained,
        processing_class=tiny_tokenizer(),
    )


def watched(made):
    """Record the batches that a trainer trains on: first token of each row, padding aside."""
    seen, step = [], made.training_step

    def record(model, inputs, *args, **kwargs):
        seen.append([tuple(row[row != 0].tolist()) for row in inputs["input_ids"]])
        return step(model, inputs, *args, **kwargs)

    made.training_step = record
    return seen


def delta(folder):
    return load_file(folder / "delta" / "delta.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


# -- the sampler ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("share", "batch", "each"), [(0.25, 4, 1), (0.5, 6, 3), (0.3, 10, 3), (0.9, 10, 9)])
def test_every_batch_has_its_share(share, batch, each):
    rows = list(ReplaySampler(120, 7, share, seed=1))
    assert len(rows) == 120
    counts = {sum(row >= 120 for row in rows[i : i + batch]) for i in range(0, 120, batch)}
    assert counts == {each}


@pytest.mark.parametrize("share", [0.1, 0.17, 0.33])
def test_a_share_that_is_no_whole_number_of_rows_is_kept_over_batches(share):
    rows = list(ReplaySampler(400, 7, share, seed=1))
    assert sum(row >= 400 for row in rows) == int(400 * share + 1e-9)
    for start in range(0, 393):
        assert abs(sum(row >= 400 for row in rows[start : start + 8]) - 8 * share) < 1 + 1e-9


@pytest.mark.parametrize("epoch", [0, 1, 5])
def test_training_rows_keep_the_place_they_have_without_replay(epoch):
    plain = SeedableRandomSampler(range(50), generator=torch.Generator(), data_seed=9)
    mixed = ReplaySampler(50, 6, 0.2, seed=9)
    plain.set_epoch(epoch)
    mixed.set_epoch(epoch)
    kept = [(a, b) for a, b in zip(plain, mixed, strict=True) if b < 50]
    assert len(kept) == 40 and all(a == b for a, b in kept)


def test_retained_rows_take_turns_through_all_epochs_in_seeded_order():
    def drawn(seed):
        sampler, found = ReplaySampler(20, 7, 0.25, seed), []
        for epoch in range(9):
            sampler.set_epoch(epoch)
            found += [row - 20 for row in sampler if row >= 20]
        return found

    found = drawn(1)
    turns = [found[i : i + 7] for i in range(0, 42, 7)]
    assert len(found) == 45 and all(sorted(turn) == list(range(7)) for turn in turns) and turns[0] != turns[1]
    assert drawn(1) == found != drawn(2)


def test_one_table_of_both():
    train = Dataset.from_dict({"prompt": ["a"], "input_ids": [[1, 2]], "labels": [[-100, 2]]})
    retained = Dataset.from_dict({"text": ["b"], "labels": [[3]], "input_ids": [[3]]})
    table = with_retained(train, retained)
    assert table[0] == {"input_ids": [1, 2], "labels": [-100, 2]} and table[1] == {"input_ids": [3], "labels": [3]}


# -- in a run ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["static", "full"])
def test_each_batch_of_a_run_has_its_share_and_no_step_is_added(tmp_path, policy):
    made = trainer(tmp_path, policy=policy, replay_share=0.25, max_steps=-1, num_train_epochs=2)
    kept = {tuple(row["input_ids"]) for row in made.run.retained.rows}
    seen = watched(made)
    made.train()
    assert len(seen) == made.state.global_step == 16
    assert {sum(row in kept for row in batch) for batch in seen} == {1}
    counts = Counter(row for batch in seen for row in batch if row in kept)
    assert len(counts) == 10 and set(counts.values()) == {1, 2}


def test_accumulation_keeps_the_share(tmp_path):
    made = trainer(tmp_path, policy="random", replay_share=0.25, gradient_accumulation_steps=2, max_steps=3)
    kept = {tuple(row["input_ids"]) for row in made.run.retained.rows}
    seen = watched(made)
    made.train()
    assert len(seen) == 6 and {sum(row in kept for row in batch) for batch in seen} == {1}


def test_share_zero_equals_no_retained_data_bit_for_bit(tmp_path):
    trainer(tmp_path / "none", retained=None, policy="reactive").train()
    trainer(tmp_path / "zero", policy="reactive", replay_share=0.0).train()
    assert same(delta(tmp_path / "none"), delta(tmp_path / "zero"))


def test_resume_sees_the_rows_of_the_uninterrupted_run(tmp_path):
    settings = dict(policy="static", replay_share=0.25, rows=20, save_strategy="steps", save_steps=7)
    whole = trainer(tmp_path / "whole", **settings)
    expected = watched(whole)
    whole.train()

    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 9:
                raise RuntimeError("power cut")

    broken = trainer(tmp_path / "broken", **settings)
    broken.add_callback(Stop())
    with pytest.raises(RuntimeError):
        broken.train()
    resumed = trainer(tmp_path / "broken", **settings)
    seen = watched(resumed)
    resumed.train(resume_from_checkpoint=True)
    assert len(expected) == 12 and seen == expected[7:]  # 5 steps an epoch: the checkpoint is in the second
    assert same(delta(tmp_path / "whole"), delta(tmp_path / "broken"))


def test_labels_of_retained_rows_follow_their_own_columns(tmp_path):
    made = trainer(tmp_path, policy="random", replay_share=0.5)
    assert all(row["labels"] == row["input_ids"] for row in made.run.retained.rows)
    assert any(-100 in row["labels"] for row in made.train_dataset)
    other = trainer(tmp_path / "2", retained=sentences(8, seed=4), policy="random", replay_share=0.5)
    assert all(row["labels"][0] == -100 != row["labels"][-1] for row in other.run.retained.rows)


def test_rows_without_a_token_to_predict(tmp_path):
    nothing = Dataset.from_dict({"input_ids": [[3, 4]], "labels": [[-100, -100]]})
    with pytest.raises(DataError, match="no retained row has a token to predict"):
        trainer(tmp_path, retained=nothing, policy="random", replay_share=0.2)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(replay_share=1.0), r"replay_share is 1.0; expected a share in \[0, 1\)"),
        (dict(replay_share=-0.1), "replay_share is -0.1"),
        (dict(replay_share=0.2, retained=None), "replay_share 0.2 needs to know what is to be kept.*retained_source"),
        (dict(replay_share=0.2, packing=True, max_length=16), "no packing"),
        (dict(replay_share=0.2, train_sampling_strategy="sequential"), "'sequential': expected 'random'"),
        (dict(retained_source="bass"), "did you mean 'base'"),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        trainer(tmp_path, **{"policy": "random", **settings})


def test_zero_3_leaves_nobody_to_write_retained_text(tmp_path):
    args = config(tmp_path, policy="random", replay_share=0.25, retained_source="base")
    bank = SimpleNamespace(placement=SimpleNamespace(sharded=True))
    with pytest.raises(ConfigError, match="'base' is not supported under ZeRO 3.*retained-"):
        retained_rows(args, None, bank, None, None, None)
