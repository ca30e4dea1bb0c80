"""A budget that changes over the run: masks and optimizer follow it, a constant one is none, resuming crosses it."""

import pytest
import torch
from transformers import TrainerCallback

from foresight.common.errors import BudgetError, ConfigError
from foresight.masks.budget_schedule import BudgetSchedule
from foresight.model.components import component_table
from foresight.policies.catalogue import make_policy
from foresight.training.calendar import Calendar
from foresight.training.plan import Plan
from foresight.training.trainer import ForesightTrainer
from support.runs import config
from support.tiny import pairs, sentences, tiny, tiny_tokenizer

SETTINGS = dict(
    use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", disable_tqdm=True, max_steps=12,
    per_device_train_batch_size=4, learning_rate=1e-2, logging_strategy="steps", logging_steps=50, save_strategy="no",
    seed=3, budget=0.2, probe_every=2, remask_every=3, probe_examples=6, watch_steps=6, mlp_block=2,
)  # fmt: skip


def run(folder, resume=None, callback=None, **settings):
    made = ForesightTrainer(
        model=tiny(),
        args=config(folder, SETTINGS, **settings),
        train_dataset=sentences(),
        contrast_dataset=pairs(),
        processing_class=tiny_tokenizer(),
    )
    if callback is not None:
        made.add_callback(callback)
    made.train(resume_from_checkpoint=resume)
    return made


class Rows(TrainerCallback):
    """Notes, at every step, the bank's rows, the numbers in the optimizer's state, and the vectors in the mask."""

    def __init__(self):
        self.seen = []

    def on_optimizer_step(self, args, state, control, optimizer=None, **kwargs):
        inner = getattr(optimizer, "optimizer", optimizer)
        bank = inner.param_groups[0]["params"][0]
        held = sum(value.numel() for value in inner.state[bank].values())
        self.seen.append((len(bank), held, len(inner.ages)))


def vectors(made):
    return [int(made.table.vectors[list(mask.components)].sum()) for _, mask in made.schedule.entries]


def same_weights(a, b):
    a, b = a.bank.merged_state_dict(), b.bank.merged_state_dict()
    return all(torch.equal(a[k], b[k]) for k in a)


@pytest.mark.parametrize(
    ("shape", "policy"),
    [("front-loaded", "static"), ("grown", "reactive"), ([[0, 1], [0.25, 3]], "random")],
)
def test_bank_optimizer_and_mask_follow_the_schedule(tmp_path, shape, policy):
    rows, once = Rows(), {"remask_every": 0} if policy == "reactive" else {}
    done = run(tmp_path, budget_schedule=shape, policy=policy, callback=rows, **once)
    schedule = BudgetSchedule.of(shape)
    expected = [schedule.vectors(done.table, 0.2, step, 12) for step in range(12)]
    assert rows.seen == [(n, 2 * n * 32, n) for n in expected] and len(set(expected)) > 1
    for (step, _), size in zip(done.schedule.entries, vectors(done), strict=True):
        assert expected[step] - done.table.vectors.max() < size <= expected[step]
    boundaries = {0, *schedule.boundaries(12)}
    assert {step for step, _ in done.schedule.entries} == boundaries
    held = {v.untyped_storage().nbytes() for v in done.run.optimizer.state[done.bank.vectors].values()}
    assert held == {expected[-1] * 32 * 4} and done.bank.vectors.untyped_storage().nbytes() == expected[-1] * 32 * 4


@pytest.mark.parametrize("watch", ["hold", "rotate"])
def test_the_budget_falls_during_the_watch_too(tmp_path, watch):
    rows = Rows()
    shape = [[0, 4], [0.4, 2], [0.8, 1]]  # after steps 5 (in the watch, no turn) and 10 (no decision)
    done = run(tmp_path, policy="foresight", forecaster="drift", watch=watch, budget_schedule=shape, callback=rows)
    expected = [BudgetSchedule.of(shape).vectors(done.table, 0.2, step, 12) for step in range(12)]
    assert [n for n, _, _ in rows.seen] == expected and {0, 5, 10} <= {step for step, _ in done.schedule.entries}


def test_a_constant_schedule_equals_none_bit_for_bit(tmp_path):
    plain = run(tmp_path / "plain", policy="reactive")
    scheduled = run(tmp_path / "scheduled", policy="reactive", budget_schedule="[[0, 2], [0.5, 2]]")
    assert plain.schedule.entries == scheduled.schedule.entries and same_weights(plain, scheduled)


def test_resume_crosses_changes(tmp_path):
    settings = dict(policy="static", budget_schedule=[[0, 3], [0.4, 1], [0.65, 2]], save_strategy="steps", save_steps=3)
    whole = run(tmp_path / "whole", **settings)

    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 7:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        run(tmp_path / "broken", callback=Stop(), **settings)
    resumed = run(tmp_path / "broken", resume=True, **settings)
    assert resumed.schedule.entries == whole.schedule.entries and same_weights(whole, resumed)
    assert {5, 8} <= {step for step, _ in whole.schedule.entries}  # one before the checkpoint of step 6, one after
    a, b = (made.bank.tensors(made.run.optimizer) for made in (whole, resumed))
    assert all(torch.equal(a[k], b[k]) for k in a)


def test_the_schedule_can_be_replayed_under_itself(tmp_path):
    first = run(tmp_path / "first", policy="static", budget_schedule="front-loaded")
    settings = dict(policy="replay", mask_schedule=str(tmp_path / "first" / "schedule.json"))
    again = run(tmp_path / "again", budget_schedule="front-loaded", **settings)
    assert again.schedule.entries == first.schedule.entries and same_weights(first, again)
    with pytest.raises(BudgetError, match="raise the budget"):
        run(tmp_path / "small", **settings)


def test_the_plan_says_peak_and_mean(tmp_path):
    model = tiny()
    table = component_table(model, 2)
    for shape in ("front-loaded", "grown"):
        args = config(tmp_path, SETTINGS, policy="static", budget_schedule=shape)
        calendar = Calendar(args, make_policy("static", "components"), 12)
        plan = Plan(model, args, calendar)
        rows = [BudgetSchedule.of(shape).vectors(table, 0.2, step, 12) for step in range(12)]
        assert plan.bank_vectors == max(rows) == plan.sizes.rows and plan.mean_vectors == pytest.approx(sum(rows) / 12)
        assert plan.decisions == [0, 4, 8] and plan.ledger_bytes >= max(rows) * 32 * 4


def test_bad_settings(tmp_path):
    with pytest.raises(ConfigError, match="policy 'full' over components does not take it"):
        config(tmp_path, SETTINGS, policy="full", budget_schedule="grown")
    with pytest.raises(ConfigError, match="does not go with watch 'full-keep'"):
        config(tmp_path, SETTINGS, policy="foresight", watch="full-keep", budget_schedule="grown")
    with pytest.raises(BudgetError, match="is 1.26 at its peak; expected at most 1: lower the budget to 0.4762"):
        config(tmp_path, budget=0.6, budget_schedule="grown")
    with pytest.raises(BudgetError, match="the stage that begins at 0 of the run has 0.15 times the budget 0.02"):
        run(tmp_path, policy="static", budget=0.02, budget_schedule="grown")
