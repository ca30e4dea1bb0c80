"""Restarts at a cadence equal a reference whose state is cleared; kept moments are those that a vector left with."""

import pytest
import torch
from foresight.training.moments import KeptMoments, restart
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from foresight.bank import Bank
from foresight.bank.optimizer import MOMENTS, BankAdamW
from foresight.common.errors import CheckpointError, ConfigError
from foresight.masks.masks import Mask
from foresight.model.components import component_table
from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from support.tiny import pairs, sentences, tiny, tiny_tokenizer, tokens

# A large epsilon keeps rounding near a zero gradient from becoming a step of another sign.
COMMON = dict(
    use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", disable_tqdm=True, max_steps=12,
    per_device_train_batch_size=4, learning_rate=1e-2, adam_epsilon=1e-2, logging_strategy="no",
    seed=3,
)  # fmt: skip


def run(folder, resume=None, callback=None, **settings):
    made = ForesightTrainer(
        model=tiny(),
        args=ForesightConfig(
            output_dir=str(folder), **{**COMMON, "save_strategy": "no", "budget": 0.2, "probe_examples": 6, **settings}
        ),
        train_dataset=sentences(),
        contrast_dataset=pairs(),
        processing_class=tiny_tokenizer(),
    )
    if callback is not None:
        made.add_callback(callback)
    made.train(resume_from_checkpoint=resume)
    return made


class Clear(TrainerCallback):
    """A reference's restart: forget the optimizer's state every so many steps."""

    def __init__(self, every):
        self.every = every

    def on_step_end(self, args, state, control, optimizer=None, **kwargs):
        if state.global_step % self.every == 0:
            getattr(optimizer, "optimizer", optimizer).state.clear()


def reference(folder, mask, table, every):
    """AdamW over whole matrices whose gradients outside the mask are zero."""
    model = tiny().requires_grad_(False)
    for target in table.targets:
        weight = model.get_submodule(target.module).weight.requires_grad_(True)
        inside = torch.zeros_like(weight)
        for component in (table.components[i] for i in mask.components):
            for s in component.slices:
                if s.module == target.module:
                    (inside if s.axis == "row" else inside.T)[s.start : s.stop] = 1
        weight.register_hook(lambda gradient, inside=inside: gradient * inside)
    args = SFTConfig(output_dir=str(folder), save_strategy="no", **COMMON)
    sft = SFTTrainer(model=model, args=args, train_dataset=sentences(), processing_class=tiny_tokenizer())
    if every:
        sft.add_callback(Clear(every))
    sft.train()
    return model.state_dict()


@pytest.mark.parametrize(("policy", "every"), [("static", 1), ("static", 5), ("full", 5)])
def test_restarts_equal_a_reference_whose_state_is_cleared(tmp_path, policy, every):
    ours = run(tmp_path / "ours", policy=policy, restart_every=every, remask_every=0)
    merged = ours.bank.merged_state_dict()
    cleared = reference(tmp_path / "sft", ours.bank.mask, ours.table, every)
    assert all((merged[k] - cleared[k]).abs().max() < 1e-5 for k in cleared)


def test_restarts_make_a_difference(tmp_path):
    plain, early = (run(tmp_path / str(every), policy="static", restart_every=every) for every in (12, 6))
    a, b = plain.bank.merged_state_dict(), early.bank.merged_state_dict()
    assert any((a[k] - b[k]).abs().max() > 1e-4 for k in a) and plain.bank_optimizer.ages[0] == 12  # not at the end


# -- kept moments -----------------------------------------------------------------------------------------------------


def banked():
    model = tiny()
    table = component_table(model)
    bank = Bank(model, table, 200)
    return model, bank, BankAdamW(bank.vectors, 1e-2)


def train(model, optimizer, steps):
    for step in range(steps):
        ids = tokens(seed=step)
        model(input_ids=ids, labels=ids).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def remask(bank, optimizer, kept, mask):
    kept.take(bank, optimizer, mask)
    bank.remask(mask, optimizer)
    return kept.give(bank, optimizer)


def rows_of(bank, optimizer, ids):
    rows = torch.searchsorted(bank.ids, ids)
    return {
        **{k: optimizer.state[bank.vectors][k][rows].clone() for k in MOMENTS},
        "ages": optimizer.ages[rows].clone(),
    }


def test_a_vector_comes_back_with_the_moments_it_left_with():
    model, bank, optimizer = banked()
    kept, one, two = KeptMoments(bank.table.d_model), Mask.of([0, 1, 9]), Mask.of([1, 2, 3])
    assert remask(bank, optimizer, kept, one) == 0 and kept.nbytes == 0  # nothing was trained before
    train(model, optimizer, 4)
    gone = torch.from_numpy(bank.table.vector_ids([0, 9]))
    before = rows_of(bank, optimizer, gone)
    assert before["ages"].eq(4).all() and before["exp_avg"].abs().sum() > 0
    assert remask(bank, optimizer, kept, two) == 0
    assert torch.equal(kept.ids, gone) and kept.nbytes == len(gone) * ((2 * 32 + 1) * 4 + 8)
    entered = rows_of(bank, optimizer, torch.from_numpy(bank.table.vector_ids([2, 3])))
    assert not any(values.any() for values in entered.values())  # never trained: fresh
    train(model, optimizer, 3)
    stayed = rows_of(bank, optimizer, torch.from_numpy(bank.table.vector_ids([1])))
    assert remask(bank, optimizer, kept, one) == len(gone)
    after = rows_of(bank, optimizer, gone)
    assert all(torch.equal(before[k], after[k]) for k in before)
    again = rows_of(bank, optimizer, torch.from_numpy(bank.table.vector_ids([1])))
    assert all(torch.equal(stayed[k], again[k]) for k in stayed) and again["ages"].eq(7).all()
    assert torch.equal(kept.ids, torch.from_numpy(bank.table.vector_ids([2, 3])))


def test_restart_zeroes_moments_and_ages_and_nothing_else():
    model, bank, optimizer = banked()
    bank.remask(Mask.of([0, 1]), optimizer)
    train(model, optimizer, 3)
    values = bank.vectors.detach().clone()
    restart(bank, optimizer)
    state = optimizer.state[bank.vectors]
    assert not any(state[k].any() for k in MOMENTS) and not optimizer.ages.any() and torch.equal(bank.vectors, values)


def test_a_run_with_kept_moments_resumes_as_if_uninterrupted(tmp_path):
    settings = dict(policy="random", redraw=True, entry_moments="kept", remask_every=2, save_strategy="steps",
                    save_steps=5, budget=0.3, logging_strategy="steps")  # fmt: skip
    whole = run(tmp_path / "whole", **settings)
    held = [e["foresight/kept_moment_bytes"] for e in whole.state.log_history if "foresight/churn" in e]
    assert held[0] == 0 < held[-1] == whole.kept_moments.nbytes

    class Stop(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 7:
                raise RuntimeError("power cut")

    with pytest.raises(RuntimeError):
        run(tmp_path / "broken", callback=Stop(), **settings)
    resumed = run(tmp_path / "broken", resume=True, **settings)
    a, b = (made.bank.merged_state_dict() for made in (whole, resumed))
    assert all(torch.equal(a[k], b[k]) for k in a)
    for name, tensor in whole.kept_moments.tensors().items():
        assert torch.equal(tensor, resumed.kept_moments.tensors()[name])


def test_bad_inputs(tmp_path):
    def config(**settings):
        return ForesightConfig(output_dir=str(tmp_path), **settings)

    with pytest.raises(ConfigError, match="entry_moments 'kept' contradicts moments 'restart'"):
        config(entry_moments="kept", moments="restart")
    with pytest.raises(ConfigError, match="did you mean 'kept'"):
        config(entry_moments="keep")
    with pytest.raises(ConfigError, match="restart_every is -1"):
        config(restart_every=-1)
    with pytest.raises(CheckpointError, match="missing or differ in length"):
        KeptMoments(4).load({"ids": torch.zeros(1)})
