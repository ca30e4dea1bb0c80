"""Rows of every matrix, o and down included: the bank of vectors, whose vectors are pieces of rows."""

from datetime import timedelta
from pathlib import Path

import deepspeed
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from foresight.bank import Bank
from foresight.bank.delta import apply_delta, write_delta
from foresight.bank.optimizer import BankAdamW
from foresight.bank.zero import ZeroPlacement
from foresight.common.errors import ArchitectureError, CheckpointError
from foresight.masks.budget import budget_vectors
from foresight.masks.selection import select
from foresight.model.vector_table import row_table
from foresight.scoring import make_scorer
from foresight.scoring.gradient_taps import weight_gradients
from foresight.scoring.probes import TextProbe
from support.bank_cases import SETTINGS, train
from support.processes import run_group
from support.runs import Stop, delta, run, same, trainer
from support.tiny import FAMILIES, tiny, tokens

ROWS = [family for family in FAMILIES if family != "gpt2"]


def banked(family="llama", seed=0, **settings):
    model = tiny(family)
    table = row_table(model)
    bank = Bank(model, table, budget_vectors(table, 0.2))
    bank.remask(random_mask(bank, seed))
    return model, bank, BankAdamW(bank.vectors, **{**SETTINGS, **settings})


def random_mask(bank, seed):
    return select(np.random.default_rng(seed).random(len(bank.table)), bank.table, bank.n_vectors)


def rows_of(bank, mask=None):
    """Parameter name -> rows that a mask trains, read from their names."""
    found = {}
    for name in bank.table.names((mask or bank.mask).components):
        layer, leaf, row = name[1:].split(".")
        (module,) = [t.module for t in bank.table.targets if f".{layer}." in t.module and t.module.endswith(f".{leaf}")]
        found.setdefault(f"{module}.weight", []).append(int(row))
    return found


# -- the table ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ROWS)
def test_every_row_of_every_matrix_is_a_component(family):
    model = tiny(family)
    table = row_table(model)
    shapes = {t.module: model.get_submodule(t.module).weight.shape for t in table.targets}
    assert len(table) == sum(shape[0] for shape in shapes.values())
    assert table.n_vectors * table.d_model == sum(shape.numel() for shape in shapes.values())
    assert np.array_equal(
        np.sort(np.concatenate([table.vector_ids([i]) for i in range(len(table))])), range(table.n_vectors)
    )
    assert [table.id_of[name] for name in table.name.tolist()] == list(range(len(table)))
    for wrong in ("L0.head.0.q_proj.0", "L0.down_proj.99", "L0.down_proj.01", "L9.down_proj.0"):
        assert wrong not in table.id_of
    for target in table.targets:
        own = np.unique(table.owner[target.ids])
        assert set(table.vectors[own]) == {shapes[target.module][1] // table.d_model}
        assert set(table.kind[own]) == {"mlp" if ".mlp." in target.module else "head"}


def test_weights_that_are_stored_transposed_are_refused():
    with pytest.raises(ArchitectureError, match="'gpt2' stores its weights transposed.*use 'vectors' or 'weights'"):
        row_table(tiny("gpt2"))


# -- the bank -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ROWS)
def test_re_masked_training_equals_plain_training_of_the_same_rows(family):
    """Masks follow one another without a row in common, so that plain AdamW may begin anew with each."""
    reference, (model, bank, optimizer) = tiny(family), banked(family)
    first = bank.mask
    others = np.setdiff1d(np.arange(len(bank.table)), first.components)
    for mask in (first, type(first).of(others[:: max(1, len(others) // len(first))][: len(first) // 2])):
        bank.remask(mask, optimizer)
        inside = rows_of(bank)
        train(model, optimizer, 3)
        plain = torch.optim.AdamW(reference.parameters(), **SETTINGS)
        hooks = []
        for name, parameter in reference.named_parameters():
            kept = torch.zeros_like(parameter)
            kept[inside.get(name, [])] = 1
            hooks.append(parameter.register_hook(lambda g, kept=kept: g * kept))
        train(reference, plain, 3)
        for hook in hooks:
            hook.remove()
    merged, before = bank.merged_state_dict(), tiny(family).state_dict()
    touched = [rows_of(bank, mask) for mask in (first, bank.mask)]
    for name, parameter in reference.named_parameters():
        assert torch.allclose(merged[name], parameter, atol=2e-5), name
        rows = sorted({row for one in touched for row in one.get(name, [])})
        outside = np.setdiff1d(np.arange(len(parameter)), rows)
        assert torch.equal(merged[name][outside], before[name][outside])
    assert any("down_proj" in name or "dense_4h_to_h" in name for name in rows_of(bank, first))
    assert bank.vectors.numel() <= 0.2 * bank.table.model_parameters


def test_state_and_delta_give_the_same_model_back(tmp_path):
    model, bank, optimizer = banked()
    train(model, optimizer, 2)
    bank.remask(random_mask(bank, 1), optimizer)
    train(model, optimizer, 2)
    again, other, fresh = banked(seed=1)
    other.restore(bank.tensors(optimizer), bank.mask, fresh)
    assert torch.equal(again(tokens()).logits, model(tokens()).logits)
    ids, values = bank.changed()
    write_delta(tmp_path, bank.table, ids, values, {"model": "tiny", "base_hash": bank.base.hash, "step": 4})
    applied = apply_delta(tiny(), tmp_path).state_dict()
    assert all(torch.equal(applied[name], value) for name, value in bank.merged_state_dict().items())
    with pytest.raises(CheckpointError):
        apply_delta(tiny("mistral"), tmp_path)


@pytest.mark.parametrize("scorer", ["gradient", "weight_gradient", "movement"])
def test_a_row_scores_as_its_entries_do(scorer):
    model = tiny()
    table, probe = row_table(model), TextProbe.from_dataset([{"input_ids": row} for row in tokens().tolist()], 8)
    params = {"reference": {t.module: torch.zeros(model.get_submodule(t.module).weight.shape) for t in table.targets}}
    found = make_scorer(scorer, **(params if scorer == "movement" else {})).score(model, table, probe).values
    gradients = {}
    for batch in probe.batches:
        weight_gradients(model, table, batch, lambda target, g: gradients.update({target.module: g.clone()}))
    for target in table.targets:
        weight = model.get_submodule(target.module).weight.detach()
        gradient = gradients[target.module].view(weight.shape)
        expected = {"gradient": gradient.norm(dim=1), "weight_gradient": (gradient * weight).abs().sum(1),
                    "movement": weight.norm(dim=1)}[scorer]  # fmt: skip
        own = np.unique(table.owner[target.ids])
        np.testing.assert_allclose(found[own], expected.numpy(), rtol=1e-4, atol=1e-6)


# -- runs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["foresight", "random", "predicted"])
def test_a_run_over_rows_fills_its_budget_and_is_resumed(tmp_path, policy):
    settings = dict(granularity="rows", policy=policy, contrast=False, save_strategy="steps", save_steps=4, redraw=True)
    done = run(tmp_path / "whole", **settings)
    room = done.run.n_vectors - done.table.vectors[list(done.bank.mask.components)].sum()
    assert 0 <= room < done.table.vectors.max() and done.table.unit == "pieces of rows"
    broken = trainer(tmp_path / "broken", **settings)
    broken.add_callback(Stop(6))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    resumed = run(tmp_path / "broken", resume=True, **settings)
    assert resumed.schedule == done.schedule and same(delta(tmp_path / "whole"), delta(tmp_path / "broken"))


def steps(bank, optimizer, backward):
    for step in range(4):
        bank.remask(random_mask(bank, step), optimizer)
        backward(step)
    return {**bank.tensors(optimizer), "values": bank.changed()[1]}


def two_processes(folder):
    deepspeed.init_distributed("gloo", timeout=timedelta(seconds=120))
    for stage in (2, 3):
        model, bank, optimizer = banked(eps=1e-3)
        config = {
            "train_micro_batch_size_per_gpu": 4, "steps_per_print": 10**9, "zero_allow_untested_optimizer": True,
            "gradient_clipping": 1.0,
            "zero_optimization": {"stage": stage, "stage3_param_persistence_threshold": 0},
        }  # fmt: skip
        engine, *_ = deepspeed.initialize(
            model=model, model_parameters=[bank.vectors], optimizer=optimizer, config=config
        )
        bank.place(ZeroPlacement(model, engine))
        optimizer.rank = bank.placement.rank

        def backward(step, engine=engine, rank=bank.placement.rank):
            rows = tokens(8, 12, step).chunk(2)[rank]
            engine.backward(engine(input_ids=rows, labels=rows).loss)
            engine.step()

        found = steps(bank, optimizer, backward)
        bank.base.verify()
        if bank.placement.rank == 0:
            save_file({k: v.contiguous() for k, v in found.items()}, Path(folder, f"{stage}.safetensors"))
        engine.destroy()


@pytest.mark.multi_process
def test_two_processes_under_zero_2_and_3_equal_one(tmp_path):
    model, bank, optimizer = banked(eps=1e-3)
    model.train()

    def backward(step):
        for rows in tokens(8, 12, step).chunk(2):
            (model(input_ids=rows, labels=rows).loss / 2).backward()
        torch.nn.utils.clip_grad_norm_([bank.vectors], 1.0)
        optimizer.step()
        optimizer.zero_grad()

    expected = steps(bank, optimizer, backward)
    assert run_group(two_processes, 2, str(tmp_path)) == [0, 0]
    for stage in (2, 3):
        found = load_file(tmp_path / f"{stage}.safetensors")
        differ = {key: float((found[key].float() - value.float()).abs().max()) for key, value in expected.items()}
        assert max(differ.values()) < 1e-6, (stage, differ)
