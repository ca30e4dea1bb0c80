"""The proving ground: its tasks, its controls, the widening of rates, its ledger, and one run of each kind."""

import json
import math
import re
from dataclasses import asdict, replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import yaml

from eval.real import confirm, confirmed, ledger, plan, run, tasks
from eval.real.arms import ARMS
from eval.real.maps import Masks, magnitude, principal
from eval.real.plan import TUNING
from foresight.common.sealed import read_sealed
from foresight.model.shipped import model_path
from foresight.studies.ledger import Record
from foresight.studies.provenance import cell_key, environment
from foresight.tasks import seen
from support.tiny import tiny

GENERATED = [name for name in tasks.TASKS if name not in ("sst2", "truthful")]


@pytest.mark.parametrize("name", GENERATED)
def test_rows_repeat_and_no_row_is_in_two_parts(name):
    parts = tasks.rows(name, 0)
    assert {part: found["prompt"] for part, found in parts.items()} == {
        part: found["prompt"] for part, found in tasks.rows(name, 0).items()
    }
    pairs = [list(zip(found["prompt"], found["completion"], strict=True)) for found in parts.values()]
    assert len({pair for part in pairs for pair in part}) == sum(len(part) for part in pairs)
    assert len(parts["held_out"]) == tasks.HELD_OUT and len(parts["now"]) == len(parts["earlier"]) >= 400
    assert tasks.rows(name, 1)["now"]["prompt"] != parts["now"]["prompt"]


@pytest.mark.parametrize(
    ("name", "prompt", "completion"),
    [
        ("roman", "1994 in Roman numerals:", " MCMXCIV"),
        ("units", "2.05 km =", " 2050 m"),
        ("units", "7.1 l =", " 7100 ml"),
    ],
)
def test_answers_are_right(name, prompt, completion):
    class Fixed:
        choice = staticmethod(lambda listed: next(pair for pair in listed if f" {pair[0]} =" in prompt))
        randint = staticmethod(lambda low, high: round(float(prompt.split()[0]) * (100 if name == "units" else 1)))

    assert {"roman": tasks.roman, "units": tasks.units}[name](Fixed) == (prompt, completion)


def counts(ids, shape):
    return np.bincount(ids // shape[1], minlength=shape[0]), np.bincount(ids % shape[1], minlength=shape[1])


def test_controls_keep_what_they_say_and_nothing_else():
    model = tiny()
    masks = Masks(model, 400, seed=0)
    best = masks.highest(magnitude(model, 1))
    parts = dict((target.module, ids.numpy()) for target, ids in masks._parts(best))
    for by in ("", "row", "column", "row column"):
        drawn = masks.drawn(best, by)
        assert len(drawn) == len(best) == 400 and drawn != best
        assert {t.module: len(ids) for t, ids in masks._parts(drawn)} == {m: len(ids) for m, ids in parts.items()}
        for target, ids in masks._parts(drawn):
            shape = model.get_submodule(target.module).weight.shape
            for name, had, has in zip(
                ("row", "column"), counts(parts[target.module], shape), counts(ids.numpy(), shape), strict=True
            ):
                if name in by:  # none is drawn where the mask had none
                    assert not has[had == 0].any()


def test_whole_rows_are_whole_but_for_the_last():
    model = tiny()
    masks = Masks(model, 100, seed=0)
    chosen = masks.rows(magnitude(model, 1))
    assert len(chosen) == 100
    lengths = [length for target, ids in masks._parts(chosen)
               for length in np.unique(ids.numpy() // (target.n // model.get_submodule(target.module).weight.shape[0]),
                                       return_counts=True)[1]]  # fmt: skip
    assert sorted(lengths)[1:] == [32, 32, 32] and sum(lengths) == 100


def test_principal_weights_of_a_matrix_of_that_rank_are_its_largest():
    model = tiny()
    weight = model.model.layers[0].mlp.up_proj.weight
    weight.data = torch.randn(weight.shape[0], 4) @ torch.randn(4, weight.shape[1])
    target = next(t for t in Masks(model, 10, 0).table.targets if t.module == "model.layers.0.mlp.up_proj")
    assert torch.allclose(principal(model, 4)(target), weight.abs(), atol=1e-4)


@pytest.mark.parametrize(
    ("rate", "up", "then"), [(1e-3, True, 3e-3), (3e-3, True, 1e-2), (1e-3, False, 3e-4), (3e-4, False, 1e-4)]
)
def test_the_next_rate_is_a_factor_of_three_away(rate, up, then):
    assert plan.next_rate(rate, up) == pytest.approx(then, rel=1e-12)


def runner_with(losses):
    """A runner whose runs end at losses by rate."""
    asked = []

    def run_cells(cells, stage):
        asked.extend(cell.rate for cell in cells)
        return [
            SimpleNamespace(
                cell=cell, measures=losses[cell.rate] and SimpleNamespace(curve=[(1, losses[cell.rate], 0.0)])
            )
            for cell in cells
        ]

    return SimpleNamespace(run=run_cells), asked


def test_rates_are_added_until_the_best_is_inside_and_a_diverged_one_is_the_worst():
    runner, asked = runner_with({1e-2: 0.5, 3e-2: 0.4, 1e-1: 0.3, 0.3: None})
    found = plan.tune(runner, "random")
    assert min(found, key=found.get) == 1e-1 and found[0.3] == math.inf and len(asked) == 4 * len(plan.TUNING)
    runner, asked = runner_with({1e-2: 0.5, 3e-2: 0.4, 1e-1: 0.6})
    assert len(plan.tune(runner, "random")) == 3


def test_a_ledger_puts_runs_back(tmp_path, monkeypatch):
    monkeypatch.setattr(ledger, "LEDGER", tmp_path / "ledger.jsonl")
    cell = plan.cell("random", "add3", 1e-2)
    measures = run.Measures(((30, 1.0, 0.5), (60, 0.5, 0.75)), {"kl_text": 0.1}, 10, 5.0)
    record = Record(cell_key(cell), cell, environment(), measures)
    (tmp_path / "runs" / record.key).mkdir(parents=True)
    (tmp_path / "runs" / record.key / "result.json").write_text(json.dumps(record.to_json()))
    ledger.save(tmp_path / "runs")
    ledger.restore(tmp_path / "elsewhere")
    ledger.save(tmp_path / "elsewhere")
    assert len(ledger.read()) == 1
    found = read_sealed(tmp_path / "elsewhere" / record.key / "result.json")
    assert found == json.loads(json.dumps(record.to_json()))


def test_one_run_of_each_kind(tmp_path, monkeypatch, real_data):
    real_data("truthfulqa")
    (tmp_path / "bases").mkdir()
    (tmp_path / "bases" / "toy").symlink_to(model_path())
    monkeypatch.setattr(tasks, "TRAIN", 64)
    monkeypatch.setattr(tasks, "HELD_OUT", 16)
    monkeypatch.setattr(seen, "MOST", 1.0)  # the shipped tokenizer knows few of these words
    found = {}
    arms = "full lora1 random hindsight foresight_anew full_onward circuit_hindsight margins circuit_again"
    for arm in arms.split():
        cell = replace(plan.cell(arm, "reverse3", 1e-3, "toy"), steps=8, budget=0.01)
        folder = tmp_path / "runs" / arm
        folder.mkdir(parents=True)
        found[arm] = run.run_cell(cell, folder)
        assert [step for step, _, _ in found[arm].curve] == [4, 8]
        assert all(math.isfinite(value) for value in found[arm].kept.values())
        json.dumps(asdict(found[arm]), allow_nan=False)
    assert found["random"].trained == found["hindsight"].trained < found["lora1"].trained < found["full"].trained
    assert set(found["full"].after) == {"mixed 0.25", "mixed 0.5", "mixed 0.75", "trimmed"}
    assert found["hindsight"].earlier_seconds > 0 == found["random"].earlier_seconds
    assert len(list((tmp_path / "earlier").glob("toy-reverse3-0"))) == 1
    assert set(ARMS) >= set(plan.FIRST)


def test_what_is_confirmed_was_not_chosen_on_and_each_run_is_named_once():
    plan = confirm.read()
    assert len(plan.tasks) >= 8 and not set(plan.tasks) & set(TUNING) and len(plan.seeds) >= 2
    named = list(plan.cells())
    assert len({cell_key(one) for _, one in named}) == len(named)
    assert [one.seed for _, one in named] == sorted(one.seed for _, one in named)
    with_earlier = {name: one.earlier for name, one in named if one.task == "json4"}
    assert with_earlier["map of an easier task"] == "json1" and with_earlier["random"] == ""
    assert "json4" not in with_earlier["map of other tasks"].split() and with_earlier["onward full"] == "json4"
    assert "map of an easier task" not in {name for name, one in named if one.task == "dates"}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": ["add3"]}, "tasks on which rates were chosen.*: add3"),
        ({"tasks": ["dice"]}, "tasks that cannot be confirmed: dice"),
        ({"entries": {"a": {"arm": "magic", "rate": 1.0}}, "contrasts": {}}, "arms .*: magic"),
        ({"contrasts": {"c": {"arm": "map", "against": ["nothing"]}}}, "compared entries .*: nothing"),
        ({"tusks": []}, "tusks"),
    ],
)
def test_a_plan_that_cannot_be_confirmed_is_refused(tmp_path, change, message):
    data = yaml.safe_load(confirm.FILE.read_text()) | change
    (tmp_path / "confirm.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ValueError, match=message):
        confirm.read(tmp_path / "confirm.yaml")


def finished_runs(plan, gain):
    """Runs in which the first compared arm's held-out loss is lower by a factor of exp(gain)."""
    arm, rng = next(iter(plan.contrasts.values())).arm, np.random.default_rng(0)
    for name, one in plan.cells():
        log_loss = -1.0 - gain * (name == arm) + 0.05 * rng.standard_normal()
        measures = run.Measures(
            ((30, 1.0, 0.5), (60, math.exp(log_loss), 0.75)), {"kl_text": 0.1, "kl_own": 0.2, "facts": 0.5}, 10, 5.0
        )
        yield Record(cell_key(one), one, environment(), measures)


@pytest.mark.parametrize(("gain", "decided"), [(0.5, True), (0.0, False)])
def test_the_report_of_confirming_runs_says_what_they_show(gain, decided, tmp_path):
    plan = confirm.read()
    found = confirmed.found_runs(plan, list(finished_runs(plan, gain)))
    text = confirmed.page(plan, found)
    first = text.split("## ")[1]
    low, high = (float(x) for x in re.search(r"\*\*[^\[]*\[([^,]+), ([^\]]+)\]", first).groups())
    assert (low > 0) == decided and f"{low:+.2f}, {high:+.2f}" in first
    assert f"{sum(len(runs) for runs in found.values())} of {len(list(plan.cells()))} runs" in text
    confirmed.draw(found, tmp_path / "confirmed.svg")
    assert "<svg" in (tmp_path / "confirmed.svg").read_text()
    assert "No task has all of its arms yet" in confirmed.page(plan, confirmed.found_runs(plan, []))
