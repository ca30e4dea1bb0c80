"""What scoring is predicted to need, against what its passes allocate and what its scorers hold."""

import pytest

from eval.scoring.memory import Living, probe_of
from foresight.model.components import component_table
from foresight.model.placement import Placement
from foresight.scoring import make_scorer
from foresight.scoring.exact import ablation_effects
from foresight.scoring.gradient import gradient_sums
from foresight.scoring.gradient_taps import stored_weight_of
from foresight.scoring.scorer import scoring_mode
from foresight.training.memory import Sharding, memory
from foresight.training.plan import Plan
from support.runs import config
from support.tiny import tiny

ROWS, LENGTH = 8, 64
SIZES = {"hidden_size": 128, "num_attention_heads": 8, "num_hidden_layers": 4, "intermediate_size": 384}
GPT2 = {"n_embd": 128, "n_head": 8, "n_layer": 4}


def planned(folder, model, pairs=False, **changes):
    settings = {
        "policy": "reactive", "max_length": LENGTH, "probe_batch_size": ROWS, "use_cpu": True, "bf16": False,
        "gradient_checkpointing": False, "report_to": "none",
    }  # fmt: skip
    return Plan(model, config(folder, settings, **changes), None, pairs).sizes


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("scorer", ["gradient_activation", "attribution", "attribution_ig", "gradient_local"])
@pytest.mark.parametrize("family", ["mistral", "gemma2", "phi3", "gpt2", "gpt_neox"])
def test_a_pass_allocates_what_is_predicted(tmp_path, family, scorer, checkpointing):
    model = tiny(family, **(GPT2 if family == "gpt2" else SIZES)).requires_grad_(False)
    if checkpointing:
        model.train().gradient_checkpointing_enable({"use_reentrant": False})
    pairs = scorer.startswith("attribution")
    sizes = planned(tmp_path, model, pairs, scorer=scorer, gradient_checkpointing=checkpointing)
    probe, table = probe_of(ROWS, LENGTH, pairs, 64), component_table(model)
    with Living([*model.parameters(), *model.buffers()]) as living:
        make_scorer(scorer).samples(model, table, probe)
    # Not counted: attention that keeps its scores, and activation functions made of several operations.
    most = 1.8 if family in ("gemma2", "gpt2") else 1.2
    assert 1 / 1.2 < living.peak / sizes.scoring["scoring"] < most


def test_calibration_allocates_what_is_predicted(tmp_path):
    model = tiny("mistral", **SIZES)
    sizes = planned(tmp_path, model, pairs=True, scorer="attribution")
    groups = [[i] for i in range(8192 // (ROWS * LENGTH))]  # as many as share a pass
    with Living([*model.parameters(), *model.buffers()]) as living, scoring_mode(model):
        ablation_effects(model, component_table(model), probe_of(ROWS, LENGTH, True, 64), groups)
    assert living.peak == pytest.approx(sizes.scoring["calibration"], rel=0.2)


def test_copies_of_weights_are_counted_on_the_host(tmp_path):
    model = tiny("qwen3")
    table = component_table(model)
    sums = gradient_sums(model, table, probe_of(2, 8, False, 64), Placement())
    for scorer in ("gradient", "weight_gradient"):
        assert planned(tmp_path, model, scorer=scorer).sums == sum(t.nbytes for t in sums.values())
    assert planned(tmp_path, model, scorer="gradient_local").sums == 0
    damage = planned(tmp_path, model, target="damage", retained_source="base")
    assert damage.sums == sum(t.nbytes for t in sums.values())
    kept = {t.module: stored_weight_of(model)(t.module) for t in table.targets}
    sizes = planned(tmp_path, model, scorer="movement")
    assert sizes.reference == sum(t.nbytes for t in kept.values()) and not sizes.scoring
    assert memory(sizes, Sharding()).host.states["reference"] == sizes.reference


def test_who_takes_no_scores_needs_no_memory_for_them(tmp_path):
    sizes = planned(tmp_path, tiny("llama"), policy="random")
    assert not sizes.scoring and not sizes.sums and not sizes.reference
    assert planned(tmp_path, tiny("llama"), policy="random", record=True).scoring.keys() == {"scoring"}
    assert planned(tmp_path, tiny("llama"), pairs=True).scoring.keys() == {"scoring", "calibration"}


def test_scoring_comes_on_top_of_the_states_and_gathers_weights_under_zero_3(tmp_path):
    sizes = planned(tmp_path, tiny("llama"), probe_batch_size=64, per_device_train_batch_size=1)
    alone = memory(sizes, Sharding()).device
    assert alone.peak == sum(alone.states.values()) + sizes.scoring["scoring"]
    sharded = memory(sizes, Sharding(3, 2, live=10**5)).device.phases["scoring"]
    assert sharded["gathered weights"] > 0 and sharded["scores"] == sizes.scoring["scoring"]
