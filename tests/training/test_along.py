"""Scores that come along with training: what they are, that they change nothing, and that they resume."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from foresight.model.components import component_table
from foresight.model.placement import Placement
from foresight.scoring import make_scorer
from foresight.scoring.folds import FOLDS
from foresight.scoring.probes import TextProbe
from foresight.training.along import Along
from foresight.training.trainer import ForesightTrainer
from support.runs import config
from support.tiny import sentences, tiny, tiny_tokenizer

SETTINGS = dict(
    use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", disable_tqdm=True, max_steps=16,
    per_device_train_batch_size=4, learning_rate=1e-2, logging_strategy="no", save_steps=7, seed=3, budget=0.2,
    policy="reactive", remask_every=4, probe_examples=8,
)  # fmt: skip


def trainer(folder, model=None, **settings):
    args = config(folder, SETTINGS, **settings)
    return ForesightTrainer(
        model=model or tiny(), args=args, train_dataset=sentences(), processing_class=tiny_tokenizer()
    )


def run(folder, resume=None, **settings):
    made = trainer(folder, **settings)
    made.train(resume_from_checkpoint=resume)
    return made


def rows(n: int) -> list[dict]:
    ids = torch.randint(3, 60, (n, 9), generator=torch.Generator().manual_seed(0)).tolist()
    return [{"input_ids": row} for row in ids]


def loss_of(model, batch) -> torch.Tensor:
    logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=-100)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_they_are_the_scores_of_a_probe_of_the_same_rows(checkpointing):
    model = tiny()
    model.requires_grad_(False)
    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    model.train()
    table, probe, along = (
        component_table(model),
        TextProbe.from_dataset(rows(16), 4),
        Along(model, component_table(model)),
    )
    for batch in probe.batches:
        along.start()
        loss_of(model, batch).backward()
        along.stop()
    found = along.fresh(Placement())
    expected = make_scorer("step_attribution").score(model, table, probe)
    assert np.allclose(found.mean, expected.values, rtol=1e-4, atol=1e-7)
    assert found.weights.tolist() == [2.0] * FOLDS
    assert along.fresh(Placement()) is None  # it is all taken


def test_the_scale_of_the_loss_does_not_count():
    found = []
    for scale in (1.0, 100.0):
        model = tiny().requires_grad_(False)
        along = Along(model, component_table(model))
        for batch in TextProbe.from_dataset(rows(8), 8).batches:
            along.start()
            (scale * loss_of(model, batch)).backward()
            along.stop()
        found.append(along.fresh(Placement()).mean)
    assert np.allclose(*found, rtol=1e-4, atol=1e-8)


def test_collecting_changes_nothing_of_what_is_trained(tmp_path):
    """A random mask, with and without snapshots."""
    plain = run(tmp_path / "plain", policy="random", remask_every=None, probe_examples=None)
    seen = run(tmp_path / "seen", policy="random", remask_every=None, record=True, probe_every=4)
    assert seen.trajectory.steps.tolist() == [0, 4, 8, 12, 16] and seen.run.watcher.taken == 8
    assert torch.equal(plain.bank.changed()[1], seen.bank.changed()[1])
    assert not any(len(module._forward_pre_hooks) > 2 for module in seen.model.modules())


def test_a_resumed_run_has_collected_the_same(tmp_path):
    whole = run(tmp_path / "run")
    before = [s.scores["step_attribution"].values for s in whole.trajectory.snapshots]
    resumed = run(tmp_path / "run", resume=str(tmp_path / "run" / "checkpoint-7"))
    after = [s.scores["step_attribution"].values for s in resumed.trajectory.snapshots]
    assert all(map(np.array_equal, before, after)) and len(before) == 4
    assert resumed.schedule.entries == whole.schedule.entries


class _Two(Placement):
    """Rank `rank` of two, the other of which has collected `other`."""

    world = 2

    def __init__(self, rank, other):
        self.rank, self.other = rank, list(other)

    def gather(self, mine):
        both = [mine, self.other.pop(0)]
        return both if self.rank == 0 else both[::-1]


@pytest.mark.parametrize("rank", [0, 1])
def test_every_process_finds_what_it_has_collected_again(rank):
    def collected(seed):
        one = Along(tiny(), component_table(tiny()))
        one.sums = np.random.default_rng(seed).normal(size=one.sums.shape)
        one.rows = np.full(FOLDS, float(seed + 1))
        return one

    pair = [collected(0), collected(1)]
    mine, other = pair[rank], pair[1 - rank]
    state = mine.state(_Two(rank, (other.sums, other.rows)))
    again, alone = (Along(tiny(), component_table(tiny())) for _ in range(2))
    again.load_state(state, _Two(rank, ()))
    assert np.array_equal(again.sums, mine.sums) and np.array_equal(again.rows, mine.rows)
    alone.load_state(state, Placement())
    assert np.array_equal(alone.sums, pair[0].sums + pair[1].sums) and alone.rows.tolist() == [3.0] * FOLDS


def test_a_snapshot_that_comes_too_early_scores_as_many_examples_as_the_first(tmp_path):
    """Two rows a step, and a decision at the third step: six rows do not fill eight folds."""
    early = run(tmp_path, policy="foresight", probe_examples=None, remask_every=None, per_device_train_batch_size=2)
    assert early.trajectory.steps.tolist()[:2] == [0, 3]
    assert early.run.watcher.taken == 2 * early.run.calendar.cadence.first < len(sentences())


def test_a_run_that_fails_within_a_step_leaves_the_next_one_whole(tmp_path):
    broken = trainer(tmp_path)

    class Stop(TrainerCallback):
        def on_pre_optimizer_step(self, args, state, control, **kwargs):
            raise KeyboardInterrupt

    broken.add_callback(Stop())
    with pytest.raises(KeyboardInterrupt):
        broken.train()
    along = broken.run.watcher.along
    along.stop()
    assert along.rows.sum() == 4 and not hasattr(along, "tally")
