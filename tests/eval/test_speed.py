"""The measuring of speed: its arithmetic, its arms at a tiny size, and a whole measurement of the script for GPUs."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace

import pytest
import torch
from rich.console import Console

from eval.speed import eap_ig, gpu, growth, peaks, peers, zero
from eval.speed.arms import Place
from eval.speed.clock import Times, add_share, alternate, exponent, ratios
from eval.speed.measure import read_eap_ig, with_eap_ig
from eval.speed.plots import growth_figure, save_plots
from eval.speed.report import tables
from eval.speed.scoring import FAST, PLAIN, passes
from foresight.common.errors import DataError
from foresight.scoring import SCORERS

SMALL = Place(replace(gpu.TINY, width=128, mlp=384, layers=6, heads=4, kv_heads=4))


def test_work_takes_turns_and_every_round_begins_with_another():
    done = []
    works = {name: (lambda name=name: done.append(name)) for name in "abc"}
    times = alternate(works, rounds=3, warm_up=0)
    assert "".join(done) == "abc" + "bca" + "cab"
    assert all(len(t.cpu) == len(t.wall) == 3 for t in times.values())


def test_sleep_is_wall_time_and_not_cpu_time():
    found = alternate({"sleep": lambda: time.sleep(0.05)}, rounds=2)["sleep"]
    assert min(found.wall) >= 0.05 and max(found.cpu) < 0.05


def test_ratios_are_of_the_same_round():
    """The machine was four times slower in the second round; the ratio does not see it."""
    found = ratios(Times([2.0, 8.0], [3.0, 3.0]), Times([4.0, 16.0], [1.0, 3.0]))
    assert found["cpu"] == {"median": 0.5, "low": 0.5, "high": 0.5}
    assert found["wall"] == {"median": 2.0, "low": 1.0, "high": 3.0}


def test_exponent_of_a_power_law():
    sizes = [1.0, 2.0, 5.0, 9.0]
    assert exponent(sizes, [3 * s**1.7 for s in sizes]) == pytest.approx(1.7)


def test_what_a_first_step_takes_on_top_is_spread_over_the_steps_until_it_comes_again():
    times = Times([1.0, 2.0, 3.0], [2.0, 2.0, 2.0])
    add_share(times, Times([12.0], [1.0]), every=10)
    assert times.cpu == [2.0, 3.0, 4.0]
    assert times.wall == [2.0, 2.0, 2.0]  # the first was the fastest: nothing is taken off


@pytest.fixture(scope="module")
def built():
    arms, _ = peers.all_arms()
    return {name: build(SMALL) for name, build in arms.items()}


def test_every_arm_trains_what_it_says_and_nothing_else(built):
    for name, arm in built.items():
        before = {n: p.detach().clone() for n, p in arm.model.named_parameters()}
        arm.step()
        arm.step()  # the factors of LoRA that start against zeros get their first gradient here
        own = {id(p) for p in arm.trained}
        for n, p in arm.model.named_parameters():
            if id(p) not in own:
                assert torch.equal(p, before[n]), (name, n)
        moved = any(not torch.equal(p, before[n]) for n, p in arm.model.named_parameters() if id(p) in own)
        assert moved == (name != "floor"), name


def test_arms_have_the_sizes_they_are_named_after(built):
    total = sum(p.numel() for p in built["full"].trained)
    for name, share in (("bank_1pct", 0.01), ("bank_5pct", 0.05), ("bank_20pct", 0.2), ("bank_5pct_scattered", 0.05)):
        bank = built[name].trained[0]
        assert share * total - bank.shape[1] < bank.numel() <= share * total, name
    sizes = {name: sum(p.numel() for p in built[name].trained) for name in ("lora_r8", "shira", "adalora", "ia3")}
    assert sizes["lora_r8"] == sizes["shira"] < sizes["adalora"] < 1.1 * sizes["lora_r8"] and sizes["ia3"] > 0
    assert built["bank_5pct_cost_aware"].lowest_layer > built["bank_5pct"].lowest_layer


def test_an_early_end_of_the_backward_pass_saves_memory(built):
    saved = {name: peaks.saved_bytes(arm) for name, arm in built.items()}
    assert saved["bank_5pct"] < saved["full"] and saved["floor"] < saved["full"]
    assert saved["bank_5pct_cost_aware"] < saved["bank_5pct"] / 2


def test_optimizer_state_is_the_budget(built):
    built["bank_5pct"].step()
    vectors = built["bank_5pct"].trained[0]
    assert peaks.state_bytes(built["bank_5pct"]) == 4 * (2 * vectors.numel() + len(vectors))
    assert peaks.state_bytes(built["floor"]) == 0


def test_peak_counts_what_is_freed_again():
    def work():
        a = torch.ones(1_000_000)
        del a
        torch.ones(500_000)

    assert 4_000_000 <= peaks.allocated_by(work) < 4_500_000


def test_every_scorer_but_the_slow_one_has_a_pass():
    works = passes(SMALL, FAST)
    assert set(works) == {*SCORERS, PLAIN} - {"exact"}
    for work in works.values():
        work()


def test_arms_of_packages_that_are_not_there_are_named_with_the_remedy(monkeypatch):
    monkeypatch.setattr(peers, "PEERS", {"galore": ("no_such_package", None), "badam": ("json", peers.badam)})
    arms, missing = peers.all_arms()
    assert arms["badam"] is peers.badam and "galore" not in arms
    assert list(missing) == ["train_step.galore"]
    assert "no_such_package" in missing["train_step.galore"] and "[speed]" in missing["train_step.galore"]


def test_galore_keeps_moments_in_a_space_of_low_rank(built):
    if "galore" not in built:
        pytest.skip("galore-torch is not installed")
    arm = built["galore"]
    arm.step()
    linears = [p for name, p in arm.model.named_parameters() if "_proj." in name]
    rest = sum(p.numel() for p in arm.trained) - sum(p.numel() for p in linears)
    # Two moments, and the projection: a view of all singular vectors on that side, which so stay in memory.
    low = sum(2 * 8 * max(p.shape) + min(p.shape) ** 2 for p in linears)
    assert peaks.state_bytes(arm) == 4 * (2 * rest + low) and arm.renewal == 200


def test_badam_trains_one_layer_and_keeps_a_copy_of_it(built):
    if "badam" not in built:
        pytest.skip("badam is not installed")
    arm = built["badam"]
    arm.step()
    layer = list(arm.model.model.layers[2].parameters())
    assert {id(p) for p in arm.trained} == {id(p) for p in layer}
    copy_and_moments = 3 * sum(p.numel() for p in layer)
    assert 4 * copy_and_moments <= peaks.state_bytes(arm) <= 4 * (copy_and_moments + len(layer))  # and a step each


def test_law_has_the_ranges_and_the_exponent_of_the_medians():
    found = growth.law({n: {"median": 0.1 * n**2, "low": 0.05 * n**2, "high": float(n**2)} for n in (1, 2, 4)})
    assert found["sizes"] == [1, 2, 4] and found["ranges"][1] == [0.2, 4]
    assert found["exponent"] == pytest.approx(2)


@pytest.fixture(scope="module")
def grown():
    with pytest.MonkeyPatch.context() as patch:
        sizes = {"SMALL": SMALL.shape, "LAYERS": (3, 9), "WIDTHS": (128, 192), "COMPONENTS": (50, 100)}
        for name, value in sizes.items():
            patch.setattr(growth, name, value)
        return {**growth.of_model(SMALL, 1), "forecast": growth.of_forecast(1)}


def test_growth_has_a_law_for_every_cost_and_axis(grown):
    axes = {cost: set(laws) for cost, laws in grown.items()}
    whole = {"layers", "width", "budget"}
    assert axes == {
        "step": whole, "remask": whole, "scoring": whole - {"budget"}, "forecast": {"components", "snapshots"},
    }  # fmt: skip
    assert grown["step"]["layers"]["seconds"][1] > grown["step"]["layers"]["seconds"][0] > 0


def test_pictures_and_tables_show_all_that_was_measured(grown, tmp_path):
    ratio = {"cpu": {"median": 0.5, "low": 0.4, "high": 0.7}}
    arms = ("full", "floor", "bank_5pct", "galore")
    result = {
        "train_step": {name: {"over_full": 0.5, "trained_parameters": 7, **ratio} for name in arms},
        "memory": {name: {"over_full": 0.4, "state": 10**6} for name in arms},
        "scoring": {"attribution": {"over_train_step": 1.1, **ratio}}, "tracking": {"share": 0.02},
        "remask": {"over_train_step": 0.3, "zero2": {"over_train_step": 0.234}}, "forecast": {"seconds_100k": 1.0},
        "not_run": {"train_step.badam": "because"}, "growth": grown,
    }  # fmt: skip
    paths = save_plots(result, "cpu", tmp_path / "plots")
    assert [p.name for p in paths] == ["train_step.svg", "train_step.png", "growth.svg", "growth.png"]
    assert all(p.stat().st_size > 5000 for p in paths)
    for axis in growth_figure(grown, "cpu").axes[:5]:
        labels = [text.get_text() for text in axis.get_legend().get_texts()]
        found = [laws[name]["exponent"] for laws in grown.values() for name in laws if name in axis.get_xlabel()]
        assert [label.split()[-1] for label in labels] == [f"{e:.2f}" for e in found]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(*tables(result, "cpu"))
    text = capture.get()
    for part in (*arms, "0.23", "train_step.badam: because", "snapshots"):
        assert part in text, part


def test_figures_of_eap_ig_join_those_of_the_same_shape_only(tmp_path):
    times = {"eap": [6.0, 6.0], "eap_ig": [24.0, 30.0], eap_ig.PLAIN: [2.0, 3.0], eap_ig.HOOKED: [3.0, 3.0]}
    scoring = eap_ig.figures({name: Times(taken, taken) for name, taken in times.items()})
    assert scoring["eap"]["over_train_step"] == 2.5 and scoring["eap_ig"]["over_transformer_lens"]["median"] == 9
    file = tmp_path / "eap_ig.json"
    file.write_text(json.dumps({"shape": asdict(SMALL.shape), "environment": {}, "scoring": scoring}))
    found = read_eap_ig(file, SMALL.shape)
    before = {"scoring": {"attribution": {}}, "not_run": {"scoring.eap_ig": "why", "scoring.exact": "why"}}
    after = with_eap_ig(before, found)
    assert list(after["scoring"]) == ["attribution", "eap", "eap_ig"] and list(after["not_run"]) == ["scoring.exact"]
    with pytest.raises(DataError, match="--quick"):
        read_eap_ig(file, replace(SMALL.shape, rows=3))


def test_times_of_a_groups_processes_are_pooled():
    def rank(step, remask):
        return {"zero2": {"step": asdict(Times(step, step)), "remask": asdict(Times(remask, remask))}}

    found = zero.pooled([rank([2.0, 4.0], [1.0, 1.0]), rank([4.0, 4.0], [3.0, 4.0])])
    assert found["zero2"]["remask"]["cpu"] == {"median": 0.625, "low": 0.25, "high": 1.0}
    assert found["zero2"]["step"]["cpu_seconds"] == {"median": 4.0, "low": 2.0, "high": 4.0}


@pytest.mark.multi_process
@pytest.mark.timeout(600)
def test_a_re_mask_in_a_group_of_two_processes():
    pytest.importorskip("deepspeed")
    found = zero.in_a_group(SMALL.shape, 2, rounds=1, stages=(2, 3))
    assert set(found) == {"zero2", "zero3"}
    for stage in found.values():
        assert 0 < stage["remask"]["cpu"]["median"] < 10 and stage["step"]["cpu_seconds"]["low"] > 0


def test_the_script_for_gpus_at_a_tiny_size():
    found = gpu.compare(Place(gpu.TINY, "cpu", torch.bfloat16), steps=1, peak_flops=1e12)
    assert set(found) == set(gpu.NAMES)
    for arm in found.values():
        assert arm["seconds"] > 0 and 0 < arm["utilisation"] < 1 and arm["peak_bytes"] is None
    assert found["bank_5pct"]["trained_parameters"] < found["full"]["trained_parameters"]
