"""Policy `foresight` over single weights, in whole runs: the watch and what it leaves, resuming, what is refused."""

import math

import numpy as np
import pytest
import torch

from foresight.common.errors import BudgetError, CheckpointError, ConfigError, UnknownNameError
from foresight.forecasters.single_weights.features import FEATURES
from foresight.forecasters.single_weights.movement import Regression
from foresight.masks.masks import WeightMask
from foresight.masks.schedule import MaskSchedule
from foresight.policies.single_weights.weight_policy import WeightView
from foresight.training.sharding import refuse_world
from support.runs import Stop, delta, run, same, trainer
from support.tiny import tiny

FINE = dict(granularity="weights", policy="foresight", budget=0.05, contrast=False, watch_steps=4)


def stored(model):
    return {name: weight.clone() for name, weight in model.state_dict().items() if "foresight" not in name}


def logged(done, name):
    return [entry[f"foresight/{name}"] for entry in done.state.log_history if f"foresight/{name}" in entry]


def masks(done, folder):
    schedule = MaskSchedule.read(folder / "schedule.json", done.bank.table)
    return {step: schedule.at(step) for step, _ in schedule.entries}


@pytest.mark.parametrize(
    ("watch", "family"), [("hold", "gpt2"), ("rotate", "llama"), ("full-keep", "gpt2"), ("full-rollback", "llama")]
)
def test_nothing_outside_the_masks_changes_by_a_bit(tmp_path, watch, family):
    before = stored(tiny(family))
    done = run(tmp_path, model=tiny(family), watch=watch, **FINE)
    entries = masks(done, tmp_path)
    assert list(entries) == ([0, 2, 4] if watch == "rotate" else [0, 4])
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
    done = trainer(tmp_path, watch="full-rollback", **FINE)
    before, seen = stored(done.model), {}
    apply = done.remasking._apply

    def watched_apply(step, mask, **kwargs):
        apply(step, mask, **kwargs)
        seen[step] = {**stored(done.model), "bank": done.bank.vectors.detach().clone()}

    done.remasking._apply = watched_apply
    done.train()
    assert not seen[4].pop("bank").any() and len(done.bank.ledger) == 0
    assert all(torch.equal(seen[4][name], weight) for name, weight in before.items())
    assert len(done.schedule.entries) == 2 and done.state.global_step == 12  # the watch is part of the run


def test_a_dense_watch_chooses_what_has_moved_most(tmp_path):
    settings = dict(FINE, movement_memory="dense")
    done = run(tmp_path / "run", watch="full-keep", **settings)
    stopped = trainer(tmp_path / "stopped", watch="full-keep", **settings)
    stopped.add_callback(Stop(4))
    moved = {}
    choose = stopped.policy._choose

    def choose_and_tell(view):
        moved.update({t.module: view.bank.vectors[part].detach().abs().flatten().clone()
                      for t, part in view.bank.table.by_target(view.bank.ids)})  # fmt: skip
        return choose(view)

    stopped.policy._choose = choose_and_tell
    with pytest.raises(RuntimeError, match="power cut"):
        stopped.train()
    distance = torch.cat([moved[t.module] for t in done.bank.table.targets])
    best = distance.topk(done.run.n_vectors).indices.sort().values.numpy()
    assert np.array_equal(done.bank.mask.components, best)


@pytest.mark.parametrize("watch", ["rotate", "full-rollback"])
def test_a_resumed_run_is_the_uninterrupted_one(tmp_path, watch):
    memory = "low-precision" if watch == "rotate" else "dense"
    settings = dict(
        FINE, watch=watch, movement_memory=memory, movement_rule="agreement", save_strategy="steps", save_steps=3
    )
    whole = run(tmp_path / "whole", **settings)
    for stop in (3, 7):  # in the watch, after it
        folder = tmp_path / f"broken{stop}"
        broken = trainer(folder, **settings)
        broken.add_callback(Stop(stop))
        with pytest.raises(RuntimeError, match="power cut"):
            broken.train()
        resumed = run(folder, resume=True, **settings)
        assert same(delta(tmp_path / "whole"), delta(folder)) and whole.schedule == resumed.schedule
        assert resumed.policy.decided and resumed.policy.nbytes == whole.policy.nbytes


def test_resuming_with_other_memory_or_rule_is_refused(tmp_path):
    settings = dict(FINE, watch="rotate", movement_memory="dense", save_strategy="steps", save_steps=3)
    broken = trainer(tmp_path, **settings, movement_rule="agreement")
    broken.add_callback(Stop(3))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    with pytest.raises(CheckpointError, match="'dense'|low-precision"):
        run(tmp_path, resume=True, **{**settings, "movement_memory": "low-precision"}, movement_rule="agreement")
    with pytest.raises(CheckpointError, match="does not keep"):
        run(tmp_path, resume=True, **settings)


def test_turns_of_a_rotation_have_every_weight_once(tmp_path):
    built = trainer(tmp_path, watch="rotate", **{**FINE, "budget": 0.3})
    view = WeightView(table=built.table, n_vectors=built.run.n_vectors, step=0, total_steps=9, seed=5, bank=built.bank)
    n = math.ceil(built.bank.table.n_vectors / (built.run.n_vectors - len(built.bank.table.targets)))
    turns = [built.policy.watched(view, turn) for turn in range(n)]
    ids = np.concatenate([turn.components for turn in turns])
    assert np.array_equal(np.sort(ids), np.arange(built.bank.table.n_vectors))
    assert max(map(len, turns)) <= built.run.n_vectors
    assert built.policy.watched(view, n) == turns[0] != built.policy.watched(view, 1)


def test_bytes_seconds_and_steps_are_logged(tmp_path):
    done = {w: run(tmp_path / w, watch=w, **FINE) for w in ("hold", "full-keep")}
    shapes = [tuple(done["hold"].model.get_submodule(t.module).weight.shape) for t in done["hold"].bank.table.targets]
    for watch, one in done.items():
        assert logged(one, "movement_bytes") == [sum(8 * (rows + columns) for rows, columns in shapes)]
        assert logged(one, "watch_steps") == [4] and logged(one, "movement_seconds")[0] > 0
        beyond = one.bank.table.n_vectors - one.run.n_vectors if watch == "full-keep" else 0
        assert logged(one, "watch_bank_bytes") == [36 * beyond]
        assert max(logged(one, "scoring_share")) > 0
    fast = dict(FINE, watch="full-keep", movement_rule="agreement", max_steps=5)
    dense = run(tmp_path / "dense", movement_memory="dense", **fast)
    low = run(tmp_path / "low", movement_memory="low-precision", **fast)
    n, rows = dense.bank.table.n_vectors, sum(rows for rows, _ in shapes)
    assert dense.policy.nbytes == 2 * 4 * n and low.policy.nbytes == 2 * (n + 4 * rows + 8 * len(shapes))


def test_equal_runs_have_equal_masks_and_the_choice_is_for_good(tmp_path):
    settings = {**FINE, "watch": "rotate"}
    a, b = (run(tmp_path / name, **settings) for name in "ab")
    assert a.schedule == b.schedule and same(delta(tmp_path / "a"), delta(tmp_path / "b"))
    assert [step for step, *_ in a.schedule.entries] == [0, 2, 4]


def test_a_regression_can_be_the_rule(tmp_path):
    coefficients = np.zeros(2 * len(FEATURES))
    coefficients[FEATURES.index("log_displacement")] = 1.0
    Regression(coefficients, 0.0, 2).write(tmp_path / "rule.json")
    settings = dict(FINE, watch="full-keep", movement_memory="dense")
    learned = run(tmp_path / "a", movement_rule=str(tmp_path / "rule.json"), **settings)
    plain = run(tmp_path / "b", **settings)
    assert len(np.intersect1d(learned.bank.mask.components, plain.bank.mask.components)) > 0.99 * plain.run.n_vectors


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(movement_rule="displacment"), ConfigError, "did you mean 'displacement'"),
        (dict(movement_rule="nowhere.json"), ConfigError, "not a movement regression"),
        (dict(movement_memory="sparse"), UnknownNameError, "unknown policy_params.movement_memory 'sparse'"),
        (dict(movement_rule="agreement"), ConfigError, "'factored' keeps no signs, which sign needs"),
        (dict(budget_schedule="grown"), ConfigError, "over weights does not take it"),
        (dict(budget=0.0002, watch="hold"), BudgetError, "cannot sample"),
    ],
)
def test_bad_settings_are_refused_by_name(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        run(tmp_path, **{**FINE, **settings})


def test_several_processes_are_refused(tmp_path):
    built = trainer(tmp_path, **FINE)
    built.args.deepspeed = "zero2.json"
    with pytest.raises(ConfigError, match="runs in one process without DeepSpeed"):
        refuse_world(built.args)


def test_a_policy_refuses_the_state_of_another(tmp_path):
    built = trainer(tmp_path, **FINE)
    with pytest.raises(CheckpointError, match="not of policy 'foresight' over single weights"):
        built.policy.load_state({}, {"gate": 1})
    assert isinstance(built.bank.mask, WeightMask)
