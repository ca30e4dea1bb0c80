"""Runs over single vectors and single weights: the whole trainer, its files, and its policies."""

import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from foresight.bank.delta import Delta, apply_delta
from foresight.common.errors import CheckpointError, ConfigError
from foresight.masks.masks import WeightMask, everything
from foresight.masks.schedule import MaskSchedule
from foresight.masks.weight_selection import best_weights, gradients
from foresight.model.components import component_table
from foresight.model.vector_table import vector_table
from foresight.model.weight_table import weight_table
from foresight.policies.single_weights.weight_policy import WeightView
from foresight.scoring.probes import TextProbe
from foresight.training.config import ForesightConfig
from foresight.training.export import export
from foresight.training.memory import Sharding, memory
from foresight.training.plan import Plan
from support.runs import Stop, delta, run, same, trainer
from support.tiny import FAMILIES, tiny

FINE = dict(granularity="weights", policy="random", redraw=True, budget=0.05, contrast=False)


def merged(run):
    return run.bank.merged_state_dict()


# -- weights: the run and its files -------------------------------------------------------------------------------


def test_a_run_trains_the_budget_and_nothing_else(tmp_path):
    done = run(tmp_path, **FINE)
    assert done.bank.vectors.shape == (int(0.05 * done.table.model_parameters), 1)
    assert [step for step, *_ in done.schedule.entries] == [0, 3, 6, 9]
    before, after = tiny().state_dict(), merged(done)
    changed = sum(int((after[k] != before[k]).sum()) for k in before)
    ids, _ = done.bank.changed()
    assert 0.99 * len(ids) < changed <= len(ids) and len(ids) > 3 * len(done.bank.ids)
    log = [entry for entry in done.state.log_history if "foresight/weights" in entry]
    assert len(log) == 4 and log[1]["foresight/churn"] > 0.5 and log[1]["foresight/budget"] <= 0.05


def test_resumed_run_equals_the_uninterrupted_one(tmp_path):
    settings = dict(FINE, save_strategy="steps", save_steps=4)
    whole = run(tmp_path / "whole", **settings)
    broken = trainer(tmp_path / "broken", **settings)
    broken.add_callback(Stop(5))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    resumed = run(tmp_path / "broken", resume=True, **settings)
    assert same(delta(tmp_path / "whole"), delta(tmp_path / "broken"))
    assert whole.schedule == resumed.schedule
    assert torch.equal(whole.bank.vectors, resumed.bank.vectors)
    for form in ("schedule.json", *(f"masks/{mask.hash}.safetensors" for _, mask in whole.schedule.entries)):
        assert (tmp_path / "whole" / form).read_bytes() == (tmp_path / "broken" / form).read_bytes()


def test_delta_and_export_give_the_trained_model(tmp_path):
    tiny().save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    done = run(tmp_path / "run", model=model, **dict(FINE, save_strategy="steps", save_steps=6))
    expected = merged(done)
    patched = apply_delta(AutoModelForCausalLM.from_pretrained(tmp_path / "base"), tmp_path / "run" / "delta")
    checkpointed = export(tmp_path / "run" / "checkpoint-12", "merged", tmp_path / "out")
    for found in (patched, AutoModelForCausalLM.from_pretrained(checkpointed)):
        assert all(torch.equal(v, expected[k]) for k, v in found.state_dict().items())
    info = json.loads((tmp_path / "run" / "delta" / "delta.json").read_text())
    assert info["unit"] == "weights" and info["vectors"] == len(done.bank.changed()[0])
    changed = Delta(tmp_path / "run" / "delta", model_of(tmp_path))
    assert info["tensors"].keys() == {f"{target.module}.weight" for target, *_ in changed}
    other, name = model_of(tmp_path), next(iter(info["tensors"]))
    with torch.no_grad():
        other.get_parameter(name)[0, 0] += 1
    with pytest.raises(
        CheckpointError, match=f"of {len(info['tensors'])} tensors that it changes 1 differ, first {name}"
    ):
        apply_delta(other, tmp_path / "run" / "delta")
    (tmp_path / "run" / "tokenizer" / "tokenizer_config.json").write_text("{}")
    with pytest.raises(CheckpointError, match="is not the tokenizer that the run was trained with"):
        export(tmp_path / "run", "merged", tmp_path / "again")


def model_of(tmp_path):
    return AutoModelForCausalLM.from_pretrained(tmp_path / "base")


def test_replay_of_a_schedule_repeats_the_run(tmp_path):
    first = run(tmp_path / "first", **FINE)
    path = tmp_path / "first" / "schedule.json"
    again = run(tmp_path / "again", **{**FINE, "policy": "replay"}, mask_schedule=str(path))
    assert first.schedule == again.schedule and same(delta(tmp_path / "first"), delta(tmp_path / "again"))
    file = tmp_path / "first" / "masks" / f"{first.schedule.entries[1][1].hash}.safetensors"
    file.write_bytes((tmp_path / "first" / "masks" / f"{first.schedule.entries[0][1].hash}.safetensors").read_bytes())
    with pytest.raises(ConfigError, match="does not hold sorted weight ids with that hash"):
        run(tmp_path / "third", **{**FINE, "policy": "replay"}, mask_schedule=str(path))
    with pytest.raises(ConfigError, match="it was made with"):
        MaskSchedule.read(path, weight_table(tiny("gpt2")))


def test_settings_that_go_together(tmp_path):
    """Accumulation, restarts and a falling budget, with single weights."""
    done = run(
        tmp_path, gradient_accumulation_steps=2, restart_every=5,
        budget_schedule="front-loaded", **FINE,
    )  # fmt: skip
    sizes = [len(mask) for _, mask in done.schedule.entries]
    assert sizes == sorted(sizes, reverse=True) and len(set(sizes)) == 3 and len(done.bank.ids) == sizes[-1]
    assert sizes[-1] == int(0.05 * 0.15 * done.table.model_parameters)


def test_the_plan_counts_single_weights(tmp_path):
    args = ForesightConfig(str(tmp_path), use_cpu=True, granularity="weights", policy="static", budget=0.05)
    plan, done = Plan(tiny(), args, None), run(tmp_path / "run", **FINE)
    n = done.run.n_vectors
    assert plan.numbers.unit == "weights" and plan.bank_vectors == plan.trainable_parameters == n
    moments = sum(v.nbytes for _, v in done.bank.placement.state(done.bank.vectors, done.run.optimizer))
    assert plan.optimizer_bytes == moments + done.run.optimizer.ages.nbytes
    states = memory(plan.sizes, Sharding()).device.states
    assert {k: v / n for k, v in states.items() if k != "frozen weights"} == {
        "bank": 4, "fetched bank": 0, "moments": 8, "ages": 4, "ids": 8,
    }  # fmt: skip


# -- weights: policies --------------------------------------------------------------------------------------------


def view_of(run, **changes):
    probe = TextProbe.from_dataset(run.train_dataset, 4, 12)
    known = dict(table=run.table, n_vectors=run.run.n_vectors, step=0, total_steps=9, bank=run.bank, probe=probe)
    return WeightView(**{**known, **changes})


def dense_gradient(model, probe):
    """By autograd, of the mean loss over all labelled positions: flat, in the order of weight ids."""
    model.requires_grad_(True)
    total = sum(int((batch.targets >= 0).sum()) for batch in probe.batches)
    for batch in probe.batches:
        logits = model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch.targets.flatten(), ignore_index=-100)
        (loss * int((batch.targets >= 0).sum()) / total).backward()
    targets = component_table(model).targets
    return [torch.cat([getattr(model.get_submodule(t.module).weight, part).flatten() for t in targets])
            for part in ("grad", "data")]  # fmt: skip


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("scorer", ["weight_gradient", "gradient"])
def test_static_takes_the_weights_of_highest_score(tmp_path, family, scorer):
    chosen = trainer(tmp_path, model=tiny(family), **{**FINE, "policy": "static", "scorer": scorer})
    view = view_of(chosen)
    gradient, weight = dense_gradient(tiny(family), view.probe)
    score = (gradient * weight if scorer == "weight_gradient" else gradient).abs()
    expected = score.topk(view.n_vectors).indices.sort().values.numpy()
    found = chosen.policy.mask(view).components
    assert len(found) == view.n_vectors and len(np.intersect1d(found, expected)) >= 0.999 * len(found)


def test_groups_of_targets_give_the_gradients_of_one_pass(tmp_path):
    chosen = trainer(tmp_path, **{**FINE, "policy": "static"})
    view = view_of(chosen)
    found = [
        list(gradients(chosen.model, chosen.bank.table, view.probe, chosen.bank.placement, group))
        for group in (1, 5000, 10**9)
    ]
    assert [t for t, _ in found[0]] == list(chosen.bank.table.targets)
    for several in found[:2]:
        assert all(torch.equal(a, b) for (_, a), (_, b) in zip(several, found[2], strict=True))


def test_random_is_seeded_uniform_and_redrawn_only_if_asked(tmp_path):
    fixed = trainer(tmp_path, **{**FINE, "redraw": False, "budget": 0.2})
    masks = [fixed.policy.mask(view_of(fixed, seed=seed)) for seed in (0, 0, 1)]
    assert masks[0] == masks[1] != masks[2]
    inside = [np.mean(masks[0].components < t.offset + t.n) for t in fixed.bank.table.targets]
    expected = [(t.offset + t.n) / fixed.bank.table.n_vectors for t in fixed.bank.table.targets]
    assert np.abs(np.subtract(inside, expected)).max() < 0.03
    fixed.bank.remask(masks[0])
    assert fixed.policy.mask(view_of(fixed, seed=1, step=4)) is masks[0]
    fresh = trainer(tmp_path, **FINE)
    assert fresh.policy.mask(view_of(fresh, step=4)) != fresh.policy.mask(view_of(fresh, step=8))


def test_movement_takes_the_weights_that_a_full_run_moved_most(tmp_path):
    full = run(tmp_path / "full", policy="full", contrast=False)
    before, after = tiny().state_dict(), merged(full)
    targets = [f"{t.module}.weight" for t in full.table.targets]
    moved = torch.cat([(after[k] - before[k]).abs().flatten() for k in targets])
    hindsight = run(tmp_path / "fine", **{**FINE, "policy": "movement"}, movement_from=str(tmp_path / "full"))
    best = moved.topk(hindsight.run.n_vectors).indices.sort().values.numpy()
    assert np.array_equal(hindsight.bank.mask.components, best) and len(hindsight.schedule.entries) == 1
    # from a delta of weights; those that it does not name have not moved
    other = trainer(tmp_path / "b", **{**FINE, "policy": "movement"}, movement_from=str(tmp_path / "fine" / "delta"))
    assert np.array_equal(other.policy.mask(view_of(other)).components, best)
    with pytest.raises(CheckpointError, match="but this model's weights are"):
        trainer(tmp_path / "c", tiny(seed=1), **{**FINE, "policy": "movement"}, movement_from=str(tmp_path / "full"))


def test_reactive_scores_anew_and_static_does_not(tmp_path):
    entries = {
        name: run(tmp_path / name, **{**FINE, "policy": name}).schedule.entries for name in ("static", "reactive")
    }
    assert len(entries["static"]) == 1 and len(entries["reactive"]) > 1
    assert entries["static"][0] == entries["reactive"][0]


# -- vectors ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_a_table_of_vectors_has_each_vector_once(family):
    model = tiny(family)
    table, whole = vector_table(model), component_table(model)
    assert len(table) == len(table.id_of) == whole.n_vectors and set(table.vectors) == {1}
    ids = np.concatenate([table.vector_ids([i]) for i in range(len(table))])
    assert np.array_equal(np.sort(ids), np.arange(whole.n_vectors))
    for component in whole.components[:3]:
        mine = {table.vector_ids([i])[0] for i, c in enumerate(table) if c.name.startswith(component.name + ".")}
        assert component.kind != "mlp" and mine == set(whole.vector_ids([whole.id_of[component.name]]))
    for kind in set(whole.kind.tolist()):
        assert (table.kind == kind).sum() == whole.vectors[whole.kind == kind].sum()
        assert np.array_equal(
            table.index[(table.kind == kind) & (table.layer == 1)], np.arange((table.kind == kind).sum() // 2)
        )
    assert table.hash != whole.hash and len(everything(table)) == whole.n_vectors


@pytest.mark.parametrize("policy", ["foresight", "random", "reactive"])
def test_a_run_over_vectors_fills_its_budget(tmp_path, policy):
    done = run(tmp_path, granularity="vectors", policy=policy, redraw=True)
    n = int(0.2 * done.table.model_parameters / done.table.d_model)
    assert all(len(mask) == n for _, mask in done.schedule.entries) and len(done.schedule.entries) > 1
    if policy != "random":
        assert done.run.watcher.scorer.name == "gradient"
        assert len(done.trajectory.snapshots[0].scores["gradient"].values) == len(done.table)
    assert load_file(tmp_path / "delta" / "delta.safetensors")


# -- refused ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(granularity="neurons"), "unknown granularity 'neurons'"),
        (dict(granularity="weights", policy="full"), "'full' does not choose masks of weights; use gran"),
        (dict(granularity="weights", policy="statc"), r"unknown policy 'statc' \(did you mean 'static'\?\)"),
        (dict(granularity="weights", policy="static", scorer="attribution"), "'attribution' does not score single"),
        (dict(granularity="weights", policy="static", record=True), "record is True, but policy 'static' over weights"),
        (dict(granularity="weights", policy="static", mlp_block=4), "mlp_block is 4"),
        (dict(granularity="weights", policy="movement"), "needs policy_params.movement_from"),
        (dict(granularity="weights", policy="replay"), "needs policy_params.mask_schedule"),
        (dict(granularity="vectors", policy="static", mlp_block=4), "over vectors does not take it"),
        (dict(granularity="vectors", policy="static", scorer="attribution"), "reads activations"),
    ],
)  # fmt: skip
def test_what_does_not_go_together_is_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        trainer(tmp_path, **settings)


def test_bad_schedules_are_refused(tmp_path):
    schedule, mask = MaskSchedule(), WeightMask(np.arange(3))
    schedule.append(2, mask)
    for wrong, what in ((2, mask), (4, WeightMask(np.arange(0)))):
        with pytest.raises(ConfigError, match="does not follow|is empty"):
            schedule.append(wrong, what)
    with pytest.raises(ConfigError, match="no entry at or before step 1"):
        schedule.at(1)
    with pytest.raises(CheckpointError, match="is not the last one"):
        schedule.newest(torch.arange(4))
    with pytest.raises(ConfigError, match="not a mask schedule"):
        MaskSchedule.from_json({"version": 1}, weight_table(tiny()))


def test_scores_that_cannot_be_ranked_are_refused():
    table = weight_table(tiny())
    with pytest.raises(Exception, match="1 scores of weights are NaN"):
        best_weights([(table.targets[0], torch.tensor([1.0, torch.nan]))], 1)
    with pytest.raises(ConfigError, match="5 weights were asked for and 2 scored"):
        best_weights([(table.targets[0], torch.tensor([1.0, 2.0]))], 5)
