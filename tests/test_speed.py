"""The measuring of speed: its arithmetic, its arms at a tiny size, and a whole measurement of the script for GPUs."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest
import torch

from eval.speed import gpu, peaks
from eval.speed.arms import ARMS, Place
from eval.speed.clock import Times, alternate, exponent, ratios
from eval.speed.scoring import FAST, PLAIN, passes
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


@pytest.fixture(scope="module")
def built():
    return {name: build(SMALL) for name, build in ARMS.items()}


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
    assert peaks.state_bytes(built["bank_5pct"].optimizer) == 4 * (2 * vectors.numel() + len(vectors))
    assert peaks.state_bytes(built["floor"].optimizer) == 0


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


def test_the_script_for_gpus_at_a_tiny_size():
    found = gpu.compare(Place(gpu.TINY, "cpu", torch.bfloat16), steps=1, peak_flops=1e12)
    assert set(found) == set(gpu.NAMES)
    for arm in found.values():
        assert arm["seconds"] > 0 and 0 < arm["utilisation"] < 1 and arm["peak_bytes"] is None
    assert found["bank_5pct"]["trained_parameters"] < found["full"]["trained_parameters"]
