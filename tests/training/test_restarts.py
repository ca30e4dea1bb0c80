"""Restarts at a cadence equal a reference whose optimizer state is cleared."""

import pytest
import torch
from transformers import TrainerCallback
from trl import SFTConfig, SFTTrainer

from foresight.bank import Bank
from foresight.bank.optimizer import MOMENTS, BankAdamW
from foresight.masks.masks import Mask
from foresight.model.components import component_table
from foresight.training.checks import only_taken
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
            output_dir=str(folder),
            **only_taken({**COMMON, "save_strategy": "no", "budget": 0.2, "probe_examples": 6, **settings}),
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
    ours = run(tmp_path / "ours", policy=policy, restart_every=every)
    merged = ours.bank.merged_state_dict()
    cleared = reference(tmp_path / "sft", ours.bank.mask, ours.table, every)
    assert all((merged[k] - cleared[k]).abs().max() < 1e-5 for k in cleared)


def test_restarts_make_a_difference(tmp_path):
    plain, early = (run(tmp_path / str(every), policy="static", restart_every=every) for every in (12, 6))
    a, b = plain.bank.merged_state_dict(), early.bank.merged_state_dict()
    assert any((a[k] - b[k]).abs().max() > 1e-4 for k in a) and plain.run.optimizer.ages[0] == 12  # not at the end


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


def test_restart_zeroes_moments_and_ages_and_nothing_else():
    model, bank, optimizer = banked()
    bank.remask(Mask.of([0, 1]), optimizer)
    train(model, optimizer, 3)
    values = bank.vectors.detach().clone()
    bank.restart(optimizer)
    state = optimizer.state[bank.vectors]
    assert not any(state[k].any() for k in MOMENTS) and not optimizer.ages.any() and torch.equal(bank.vectors, values)
