"""The plan of a run against what the run then does."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM

from eval.word_tokenizer import make_tokenizer
from foresight.bank import Bank
from foresight.common.errors import ArchitectureError, BudgetError, ConfigError
from foresight.masks.costs import StepCosts
from foresight.masks.masks import everything
from foresight.model.components import component_table
from foresight.policies.catalogue import make_policy
from foresight.training.calendar import Calendar, total_steps
from foresight.training.config import ForesightConfig
from foresight.training.plan import Plan
from foresight.training.trainer import ForesightTrainer
from support.runs import config
from support.tiny import published, tiny

WORDS = "the cat dog sat ran on mat log a big red one".split()
ROWS = 20


def _args(folder, **changes):
    settings = {
        "budget": 0.2, "per_device_train_batch_size": 4, "probe_every": 2, "probe_examples": 6, "probe_batch_size": 4,
        "remask_every": 3, "watch_steps": 4, "max_steps": 11, "max_length": 16, "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "save_strategy": "no", "disable_tqdm": True, "report_to": "none",
    }  # fmt: skip
    return config(folder, settings, **changes)


def _trained(folder, **changes):
    text = [" ".join(WORDS[(i + j) % len(WORDS)] for j in range(6)) for i in range(ROWS)]
    trainer = ForesightTrainer(
        model=tiny("llama"),
        args=_args(folder, **changes),
        train_dataset=Dataset.from_dict({"text": text}),
        processing_class=make_tokenizer(WORDS),
    )
    trainer.train()
    return trainer


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"watch": "rotate"},
        {"remask_every": 0},
        {"policy": "static", "record": True},
        {"policy": "static"},
        {"policy": "reactive", "remask_every": 4},
    ],
    ids=str,
)
def test_calendar_is_what_a_run_does(tmp_path, changes):
    trainer = _trained(tmp_path, **changes)
    args = trainer.args
    calendar = Calendar(args, trainer.policy, args.max_steps)
    plan = Plan(tiny("llama"), args, calendar)
    assert plan.snapshots == trainer.trajectory.steps.tolist()
    assert plan.bank_vectors == len(trainer.bank.vectors)
    assert plan.trainable_parameters == trainer.bank.vectors.numel()
    changed = [step for step, _ in trainer.schedule.entries]
    allowed = {s for s in calendar.steps if s == 0 or calendar.decides(s) or calendar.turns(s)}
    assert set(changed) <= allowed
    assert plan.ledger_bytes >= sum(t.numel() * t.element_size() for t in trainer.bank.changed())


@pytest.mark.parametrize(
    "changes",
    [
        {"max_steps": -1, "num_train_epochs": 1.5, "gradient_accumulation_steps": 2},
        {"max_steps": -1, "num_train_epochs": 2, "per_device_train_batch_size": 3},
        {"max_steps": 4},
    ],
    ids=str,
)
def test_total_steps_are_the_trainers(tmp_path, changes):
    trainer = _trained(tmp_path, policy="random", **changes)
    args = trainer.args
    expected = total_steps(
        args.max_steps, args.num_train_epochs, ROWS, args.per_device_train_batch_size, args.gradient_accumulation_steps
    )
    assert trainer.state.global_step == expected


def test_length_is_unknown_without_rows():
    assert total_steps(-1, 3.0, None, 8, 1) is None


@pytest.mark.parametrize("changes", [{"policy": "full"}, {"watch": "full-keep"}, {"policy": "predicted"}], ids=str)
def test_training_everything_needs_room_for_everything(tmp_path, changes):
    model, calendar = tiny("llama"), Calendar(_args(tmp_path), make_policy("foresight", "components"), 11)
    plan = Plan(model, _args(tmp_path, **changes), calendar)
    less = Plan(model, _args(tmp_path), calendar)
    assert plan.watch_vectors == component_table(model).n_vectors
    own = {name: getattr(plan.sizes, name) for name in ("rows", "ledger", "scoring")}
    assert own["rows"] == plan.watch_vectors and plan.sizes == replace(less.sizes, **own)


def test_eight_billion_parameters_without_loading_any(tmp_path):
    config = published("meta-llama/Llama-3.1-8B")
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    plan = Plan(model, _args(tmp_path, budget=0.01, bf16=True), None)
    assert all(p.is_meta for p in model.parameters())
    assert plan.table.model_parameters == 8_030_261_248
    assert plan.sizes.weights == plan.table.model_parameters and plan.sizes.element == 2
    assert plan.sizes.largest == 128256 * 4096 and plan.sizes.ledger == 0
    assert plan.sizes.targets == 32 * 4096 * (2 * 4096 + 2 * 1024 + 3 * 14336)
    assert plan.bank_vectors == int(0.01 * plan.table.model_parameters / 4096)
    assert plan.calendar is None and plan.ledger_bytes is None and plan.snapshots == plan.decisions == []


def _saved(model, batch, length, checkpointing):
    """Elements a token that autograd keeps for backward in the backbone, parameters left out."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage  # held, so that no address is used twice
        return tensor

    if checkpointing:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        output = model.base_model(input_ids=torch.randint(3, 60, (batch, length)), use_cache=False)
    assert output.last_hidden_state.requires_grad
    return sum(s.nbytes() for s in kept.values()) / 4 / (batch * length)


@pytest.mark.parametrize("family", ["llama", "qwen3", "gemma2", "phi3", "gpt2", "gpt_neox"])
def test_activation_estimate_is_within_a_factor(family):
    sizes = {"hidden_size": 128, "num_attention_heads": 8, "num_hidden_layers": 3, "max_position_embeddings": 128}
    if family == "gpt2":
        sizes = {"n_embd": 128, "n_head": 8, "n_layer": 3, "n_positions": 128}
    else:
        sizes |= {"intermediate_size": 384, "num_key_value_heads": 8 if family in ("llama", "gpt_neox") else 4}
    model = tiny(family, **sizes)
    table = component_table(model)
    Bank(model, table, table.n_vectors).remask(everything(table))
    estimated, recomputed = (StepCosts(model, table, 64, on).activations(np.arange(len(table))) for on in (False, True))
    measured = _saved(model, 2, 64, False)
    assert 1 / 1.4 < measured / estimated < 1.4
    # With checkpointing only the layers' inputs stay; the estimate adds the one layer that is recomputed.
    kept = recomputed - estimated / 3
    assert _saved(model, 2, 64, True) == pytest.approx(kept, rel=0.5)


def test_what_cannot_be_planned(tmp_path):
    with pytest.raises(BudgetError, match="smallest component"):
        Plan(tiny("llama"), _args(tmp_path, budget=1e-4), None)
    foreign = tiny("llama")
    foreign.model.layers[0].self_attn.k_proj = torch.nn.Linear(32, 12)
    with pytest.raises(ArchitectureError, match="does not fit the rows that make them"):
        Plan(foreign, _args(tmp_path), None)


def test_decisions_stop_before_the_end():
    calendar = Calendar(
        ForesightConfig("x", use_cpu=True, bf16=False), make_policy("foresight", "components", {"watch_steps": 5}), 25
    )
    assert [s for s in calendar.steps if calendar.decides(s)] == [5]
    calendar = Calendar(ForesightConfig("x", use_cpu=True, bf16=False), make_policy("reactive", "components"), 40)
    assert [s for s in calendar.steps if calendar.decides(s)] == [0, 20]


def test_the_plan_of_a_budget_schedule_tells_peak_and_mean(cli):
    code, out, _ = cli("plan", "--task", "ioi", "--output_dir", "x", "--policy", "static", "--max_steps", "20",
                       "--budget_schedule", "[[0, 3], [0.5, 1]]", "--budget", "0.1")  # fmt: skip
    assert code == 0 and "over the run" in out and "at the peak" in out and "after steps 0, 10" in out


def test_a_run_that_is_over_before_it_has_begun_is_refused():
    args = ForesightConfig("x", use_cpu=True, bf16=False)
    calendar = Calendar(args, make_policy("foresight", "components", {"watch_steps": 5}), 6)
    calendar.check(warmup_steps=5)
    with pytest.raises(ConfigError, match="has 6 steps, and warmup_steps stands for 6: .* lower warmup_steps"):
        calendar.check(warmup_steps=6)
    short = Calendar(args, make_policy("foresight", "components", {"watch_steps": 5}), 5)
    with pytest.raises(ConfigError, match="has 5 steps, and the policy watches for 5 before it first chooses a mask"):
        short.check(warmup_steps=0)
