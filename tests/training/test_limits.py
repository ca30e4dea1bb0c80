"""Limits on a step's time and memory in whole runs: masks that keep them, timing without a trace, what is refused."""

import numpy as np
import pytest
import torch

from foresight.commands import early
from foresight.commands.plan import show
from foresight.common.errors import BudgetError, ConfigError
from foresight.masks.costs import StepCosts
from foresight.training import limits
from foresight.training.config import ForesightConfig
from foresight.training.limits import Pace
from foresight.training.memory import Sharding
from foresight.training.plan import Plan
from foresight.training.settings import STEP_LIMITS
from support.runs import Stop, delta, run, same, trainer
from support.tiny import tiny

DEEP = dict(num_hidden_layers=6)
RUN = dict(policy="reactive", contrast=False, max_length=16)


def deep(folder, train=True, family="llama", **settings):
    more = dict(n_layer=6) if family == "gpt2" else DEEP
    made = trainer(folder, model=tiny(family, **more), **{**RUN, **settings})
    if train:
        made.train()
    return made


def slow(monkeypatch, forward, backward):
    """Passes last as long as is said, whatever the machine."""
    monkeypatch.setattr(limits, "_timed", lambda *known: (forward, backward))


def lowest(done):
    return [int(done.table.layer[list(mask.components)].min()) for _, mask in done.schedule.entries]


@pytest.mark.parametrize(("policy", "checkpointing"), [("reactive", False), ("foresight", True), ("random", False)])
def test_every_mask_keeps_the_share(tmp_path, policy, checkpointing):
    done = deep(tmp_path, policy=policy, limits={"share": 0.6}, activation_checkpointing=checkpointing, redraw=True)
    costs = StepCosts(tiny("llama", **DEEP), done.table, 16, checkpointing)
    shares = [costs.share(np.array(mask.components)) for _, mask in done.schedule.entries]
    assert 0.5 < max(shares) <= 0.6 and min(lowest(done)) > 0
    logged = [e["foresight/predicted_step_share"] for e in done.state.log_history if "foresight/churn" in e]
    assert set(shares) == set(logged)


def gib_between(folder):
    """A plan, and GiB between those of its cheapest and its dearest step."""
    plan = Plan(tiny("llama", **DEEP), deep(folder, False).args, None)
    low, high = (plan.step_bytes(np.array([at]), Sharding()) / 2**30 for at in (len(plan.table) - 1, 0))
    return plan, low, (low + high) / 2


def test_every_mask_keeps_the_memory(tmp_path):
    plan, low, most = gib_between(tmp_path / "free")
    done = deep(tmp_path / "run", limits={"gib": most})
    taken = [plan.step_bytes(np.array(mask.components), Sharding()) / 2**30 for _, mask in done.schedule.entries]
    assert low < max(taken) <= most and min(lowest(done)) > 0


def test_seconds_follow_what_was_timed(tmp_path, monkeypatch):
    slow(monkeypatch, 1.0, 2.0)
    fast = deep(tmp_path / "fast", limits={"seconds": 8.0}, gradient_accumulation_steps=2)
    assert lowest(fast)[0] == 0 and fast.run.limits.pace.forward == 1.0
    slow(monkeypatch, 1.0, 4.0)
    slower = deep(tmp_path / "slower", limits={"seconds": 8.0}, gradient_accumulation_steps=2)
    assert min(lowest(slower)) > 0
    logged = [e["foresight/predicted_step_seconds"] for e in slower.state.log_history if "foresight/churn" in e]
    assert 6.0 < max(logged) <= 8.0


def test_timing_leaves_no_trace_in_the_run(tmp_path):
    """With dropout, so that one number drawn too many would show."""
    made = []
    for name, settings in (("a", {}), ("b", {"limits": {"seconds": 1e6}})):
        made.append(deep(tmp_path / name, False, family="gpt2", **settings))  # sets the seed
        for module in made[-1].model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.1
        made[-1].train()
    plain, timed = made
    assert timed.schedule.entries == plain.schedule.entries and same(delta(tmp_path / "a"), delta(tmp_path / "b"))
    pace = timed.run.limits.pace
    assert pace.forward > 0 and pace.backward > 0 and pace.length >= 7 and timed.run.choosing > pace.forward


@pytest.mark.parametrize("setting", STEP_LIMITS)
def test_a_resumed_run_chooses_the_same_masks(tmp_path, monkeypatch, setting):
    value = {"share": 0.6, "seconds": 4.0, "gib": gib_between(tmp_path / "free")[2]}[setting]
    settings = {"limits": {setting: value}, "save_strategy": "steps", "save_steps": 4}
    slow(monkeypatch, 1.0, 4.0)
    whole = deep(tmp_path / "whole", **settings)
    assert min(lowest(whole)) > 0
    broken = deep(tmp_path / "broken", False, **settings)
    broken.add_callback(Stop(7))
    with pytest.raises(RuntimeError, match="power cut"):
        broken.train()
    slow(monkeypatch, 100.0, 100.0)  # another machine
    resumed = deep(tmp_path / "broken", False, **settings)
    resumed.train(resume_from_checkpoint=True)
    assert resumed.schedule.entries == whole.schedule.entries
    assert same(delta(tmp_path / "whole"), delta(tmp_path / "broken"))


def test_the_watch_keeps_it(tmp_path, monkeypatch):
    slow(monkeypatch, 1.0, 4.0)
    done = deep(tmp_path, policy="foresight", limits={"seconds": 4.0}, probe_examples=4)
    assert done.run.limits.pace == Pace(1.0, 4.0, done.run.limits.pace.length)
    assert min(lowest(done)) > 0


def test_backward_ends_at_the_mask_with_checkpointing_too(tmp_path):
    """transformers makes the embeddings' output need gradients where layers are checkpointed."""
    needed = []
    made = deep(tmp_path, False, policy="random", limits={"share": 0.6}, activation_checkpointing=True)
    first = made.model.model.layers[0]

    def see(module, args):
        if module.training:
            needed.append(args[0].requires_grad)

    first.register_forward_pre_hook(see)
    made.train()
    assert needed == [False] * 12


def test_nothing_fits_is_said_before_any_work(tmp_path, monkeypatch):
    with pytest.raises(BudgetError, match="limits.share is 0.2, and the cheapest mask takes 0.[34].*lower the budget"):
        deep(tmp_path / "a", False, limits={"share": 0.2})
    with pytest.raises(BudgetError, match="limits.gib is 1e-06, and the cheapest mask takes"):
        deep(tmp_path / "b", False, limits={"gib": 1e-6})
    slow(monkeypatch, 1.0, 4.0)
    with pytest.raises(BudgetError, match="limits.seconds is 0.5, and the cheapest mask takes 1"):
        deep(tmp_path / "c", limits={"seconds": 0.5})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (dict(limits={"share": 0.0}), "limits.share is 0.0; expected a number above 0, at most 1"),
        (dict(limits={"share": 1.5}), r"limits.share is 1.5"),
        (dict(limits={"seconds": -1.0}), "limits.seconds is -1.0; expected a number above 0"),
        (dict(limits={"gib": float("nan")}), "limits.gib is nan"),
        (dict(limits={"share": 0.5, "seconds": 1.0}), "both limit the time"),
        (dict(limits={"share": 0.5}, policy="full"), "policy 'full' over components does not take it"),
        (dict(limits={"seconds": 1.0}, granularity="weights"), "over weights does not take it"),
        (
            dict(limits={"share": 0.5}, policy="foresight", policy_params={"watch": "rotate"}),
            "watch 'rotate' trains components at any",
        ),
        (dict(limits={"gib": 1.0}, policy="foresight", policy_params={"watch": "full-keep"}), "use watch 'hold'"),
        (dict(limits={"gib": 1.0}, policy="probing"), "trains all components in its scout"),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused(tmp_path, settings, message):
    with pytest.raises(ConfigError, match=message):
        ForesightConfig(str(tmp_path), use_cpu=True, bf16=False, **{"policy": "static", **settings})


def test_no_limit_is_no_limit(tmp_path):
    free, loose = run(tmp_path / "free"), run(tmp_path / "loose", limits={"share": 1.0, "gib": 100.0})
    assert free.run.mask_limits == () and len(loose.run.mask_limits) == 2
    assert free.schedule.entries == loose.schedule.entries
    assert same(delta(tmp_path / "free"), delta(tmp_path / "loose"))


def test_the_plan_says_what_masks_cost(tmp_path, capsys):
    tiny("llama", **DEEP).save_pretrained(tmp_path)
    flags = ["--model", str(tmp_path), "--policy", "static", "--max_length", "16", "--budget", "0.1"]
    show(early.plan(None, [*flags, "--limits", '{"share": 0.5}']), 1, 100)
    said = capsys.readouterr().out
    names = ("spread over all layers", "the highest layers alone", "within the limits")
    rows = {name: next(line for line in said.splitlines() if name in line) for name in names}
    spread, cheap, kept = (float(row.split("│")[2]) for row in rows.values())
    assert cheap <= kept <= 0.5 < spread < 1
    with pytest.raises(BudgetError, match="limits.share is 0.1, and the cheapest mask"):
        show(early.plan(None, [*flags, "--limits", '{"share": 0.1}']), 1, 100)
