"""Policy `foresight` over single weights, in whole runs: what it trains, when it draws anew, resuming, refusals."""

import shutil

import numpy as np
import pytest
import torch
from transformers import TrainerCallback

from foresight.bank.movement import movement
from foresight.common.errors import CheckpointError, ConfigError, DataError
from foresight.forecasters.single_weights.margins import write_map
from foresight.masks.masks import WeightMask
from foresight.masks.schedule import MaskSchedule
from foresight.model.weight_table import weight_table
from foresight.policies.single_weights.sources import map_of
from support.runs import Stop, delta, run, same, trainer
from support.tiny import tiny
from support.weight_cases import squared

FINE = dict(granularity="weights", policy="foresight", budget=0.05, contrast=False, watch_steps=2, remask_every=2)

KNOWN = ("granularity", "policy", "budget", "contrast")
"""Settings that policies without a watch take too."""


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    folder = tmp_path_factory.mktemp("earlier")
    run(folder, policy="full", contrast=False, learning_rate=3e-3)
    return folder


def entries_of(done, folder):
    schedule = MaskSchedule.read(folder / "schedule.json", done.bank.table)
    return {step: schedule.at(step).components for step, _ in schedule.entries}


def stored(model):
    return {name: weight.clone() for name, weight in model.state_dict().items() if "foresight" not in name}


@pytest.mark.parametrize(("watch", "family"), [("hold", "gpt2"), ("full-keep", "gpt2"), ("full-rollback", "llama")])
def test_nothing_outside_the_masks_changes_by_a_bit(tmp_path, watch, family):
    before = stored(tiny(family))
    done = run(tmp_path, model=tiny(family), watch=watch, **FINE)
    entries = {step: WeightMask(ids) for step, ids in entries_of(done, tmp_path).items()}
    assert list(entries) == [0, 2, 4]
    if watch == "full-rollback":
        entries.pop(0)
    ever = np.unique(np.concatenate([mask.components for mask in entries.values()]))
    after = done.bank.merged_state_dict()
    inside = {f"{target.module}.weight": ever[part] - target.offset for target, part in done.bank.table.by_target(ever)}
    for name, weight in before.items():
        outside = torch.ones(weight.numel(), dtype=torch.bool)
        outside[torch.from_numpy(inside.get(name, np.zeros(0, np.int64)))] = False
        assert torch.equal(after[name].flatten()[outside], weight.flatten()[outside]), name
    assert len(done.bank.ids) == done.run.n_vectors and len(done.bank.vectors) == done.run.n_vectors


def test_a_rewound_watch_leaves_the_weights_as_they_were(tmp_path):
    done = trainer(tmp_path, watch="full-rollback", **{**FINE, "remask_every": 0})
    before, seen = stored(done.model), {}
    apply = done.remasking._apply

    def watched_apply(step, mask, **kwargs):
        apply(step, mask, **kwargs)
        seen[step] = {**stored(done.model), "bank": done.bank.vectors.detach().clone()}

    done.remasking._apply = watched_apply
    done.train()
    assert not seen[2].pop("bank").any() and len(done.bank.ledger) == 0
    assert all(torch.equal(seen[2][name], weight) for name, weight in before.items())
    assert len(done.schedule.entries) == 2 and done.state.global_step == 12  # the watch is part of the run


def test_without_maps_it_begins_at_random_and_keeps_what_its_own_movement_does_not_speak_against(tmp_path):
    done = run(tmp_path / "own", **FINE)
    masks = entries_of(done, tmp_path / "own")
    assert list(masks) == [0, 2, 4] and done.policy.shares == [1.0]
    table, n = done.bank.table, done.run.n_vectors
    for target, part in table.by_target(torch.from_numpy(masks[0])):  # each weight is as likely as the others
        expected = n * target.n / table.n_vectors
        assert abs(len(masks[0][part]) - expected) < 5 * expected**0.5
    kept = [len(np.intersect1d(masks[a], masks[b])) / n for a, b in ((0, 2), (2, 4))]
    assert all(0.3 < share < 1 for share in kept)  # .05 by chance
    assert all(len(mask) == done.run.n_vectors for mask in masks.values())


def test_with_an_earlier_run_it_begins_where_that_has_moved(tmp_path, earlier):
    done = run(tmp_path, **FINE, maps=[str(earlier)])
    first = torch.from_numpy(entries_of(done, tmp_path)[0])
    maps = map_of(earlier, tiny(), weight_table(tiny()))
    chosen = 0.0
    for target, part in done.bank.table.by_target(first):
        variance = squared(maps.margins[target.module])
        chosen += float(variance.flatten()[first[part] - target.offset].sum()) / len(first)
    variances = torch.cat([squared(one).flatten() for one in maps.margins.values()])
    assert chosen > 1.2 * float(variances.mean())
    assert [e["foresight/own_share"] for e in done.state.log_history if "foresight/own_share" in e][
        -1
    ] == done.policy.shares[-1]
    assert len(done.policy.shares) == 2 and sum(done.policy.shares) == pytest.approx(1, abs=0.01)


def test_with_maps_alone_the_mask_is_what_moved_farthest_and_is_held(tmp_path, earlier):
    done = run(tmp_path / "a", **{**FINE, "budget": 0.005}, maps=str(earlier), own=False)
    assert list(entries_of(done, tmp_path / "a")) == [0] and done.policy.shares == []
    hindsight = {**FINE, "budget": 0.005, "policy": "movement"}
    other = trainer(tmp_path / "b", **{k: v for k, v in hindsight.items() if k in KNOWN}, movement_from=str(earlier))
    other.train()
    assert entries_of(done, tmp_path / "a")[0].tolist() == entries_of(other, tmp_path / "b")[0].tolist()


def test_the_rate_falls_as_far_as_the_mask_moved_farther_and_only_then(tmp_path, earlier):
    settings = {**FINE, "budget": 0.005, "learning_rate": 1e-2, "lr_scheduler_type": "constant"}

    def rate(done):
        return done.optimizer.param_groups[0]["lr"]

    scaled = run(tmp_path / "scaled", **settings, maps=str(earlier))
    moved = movement(earlier, tiny())
    distances = torch.cat([moved(target).flatten() for target in weight_table(tiny()).targets])
    farther = float(distances.topk(scaled.run.n_vectors).values.mean() / distances.mean())
    # Of weights that the map does not know one by one, the mean is that of its distribution.
    assert farther > 2 and rate(scaled) == pytest.approx(1e-2 / farther, rel=0.35)
    assert rate(run(tmp_path / "as given", **settings, maps=str(earlier), scale_rate=False)) == 1e-2
    assert rate(run(tmp_path / "random", **settings)) == 1e-2


def test_a_map_in_a_file_is_the_run_that_it_was_made_of(tmp_path, earlier):
    model = tiny()
    write_map(tmp_path / "map.safetensors", map_of(earlier, model, weight_table(model)), {"source": "a run"})
    by_file = run(tmp_path / "file", **FINE, maps=[str(tmp_path / "map.safetensors")])
    by_run = run(tmp_path / "run", **FINE, maps=[str(earlier)])
    assert same(delta(tmp_path / "file"), delta(tmp_path / "run")) and by_file.policy.shares == by_run.policy.shares


def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, earlier):
    settings = dict(FINE, maps=[str(earlier)], save_strategy="steps", save_steps=3)
    whole = run(tmp_path / "whole", **settings)
    for stop in (3, 7):  # before the first look at its own movement, and after it
        folder = tmp_path / f"broken{stop}"
        broken = trainer(folder, **settings)
        broken.add_callback(Stop(stop))
        with pytest.raises(RuntimeError, match="power cut"):
            broken.train()
        resumed = run(folder, resume=True, **settings)
        assert same(delta(tmp_path / "whole"), delta(folder)) and whole.schedule == resumed.schedule
        assert resumed.policy.shares == whole.policy.shares


def test_maps_of_another_model_and_runs_that_moved_nothing_are_refused(tmp_path, earlier):
    wide = tiny(intermediate_size=64)
    with pytest.raises(CheckpointError, match="weights"):
        trainer(tmp_path, wide, **FINE, maps=[str(earlier)])
    model = tiny()
    write_map(tmp_path / "map.safetensors", map_of(earlier, model, weight_table(model)), {})
    with pytest.raises(DataError, match="is a map of another model"):
        trainer(tmp_path, wide, **FINE, maps=[str(tmp_path / "map.safetensors")])
    tiny().save_pretrained(tmp_path / "same")
    with pytest.raises(DataError, match="has moved no weight"):
        trainer(tmp_path, **FINE, maps=[str(tmp_path / "same")])
    with pytest.raises(CheckpointError, match="no source of movement"):
        trainer(tmp_path, **FINE, maps=[str(tmp_path / "nothing")])
    with pytest.raises(ConfigError, match="a text or a list of texts"):
        trainer(tmp_path, **FINE, maps=3)


class AtBegin(TrainerCallback):
    """What a run has when its first mask is in force: the model's weights, and the next random number."""

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        if state.global_step == 0:
            random = torch.get_rng_state()
            self.weights, self.drawn = stored(model), torch.rand(1)
            torch.set_rng_state(random)


def test_a_scout_by_adapter_leaves_nothing_behind_but_a_map(tmp_path):
    settings = dict(FINE, own=False, learning_rate=1e-2)
    begins, masks = {}, {}
    for name, steps in (("scouted", 3), ("plain", None)):
        done = trainer(tmp_path / name, **settings, lora_steps=steps)
        done.add_callback(begin := AtBegin())
        done.train()
        begins[name], masks[name] = begin, entries_of(done, tmp_path / name)[0]
        assert not any("lora" in key for key, _ in done.model.named_parameters())
        if steps:
            assert done.run.scouting.steps == 3 and done.policy.sources == ["the scout"]
            assert 0 < done.optimizer.param_groups[0]["initial_lr"] < 0.9e-2
    before = stored(tiny())
    for begin in begins.values():
        assert all(torch.equal(begin.weights[name], weight) for name, weight in before.items())
    assert torch.equal(begins["scouted"].drawn, begins["plain"].drawn)
    assert len(np.intersect1d(masks["scouted"], masks["plain"])) < 0.8 * len(masks["plain"])


def test_a_run_with_a_scout_resumes_with_what_the_scout_found(tmp_path):
    settings = dict(FINE, lora_steps=3, save_strategy="steps", save_steps=1, lr_scheduler_type="constant")
    whole = run(tmp_path / "whole", **settings)
    broken = trainer(tmp_path / "broken", **settings)
    broken.add_callback(Stop(1))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    shutil.copytree(tmp_path / "broken", tmp_path / "slower")
    resumed = run(tmp_path / "broken", resume=True, **settings)
    assert same(delta(tmp_path / "whole"), delta(tmp_path / "broken")) and whole.schedule == resumed.schedule
    assert resumed.policy.shares == whole.policy.shares and len(whole.policy.shares) == 2
    rate = resumed.optimizer.param_groups[0]["lr"]
    slower = run(tmp_path / "slower", resume=True, **{**settings, "learning_rate": 1e-3})
    assert slower.optimizer.param_groups[0]["lr"] == pytest.approx(rate / 10)  # scaled by the policy as before
