"""Adapters: no more parameters than allowed, none left unused, and nothing else trained."""

import copy

import numpy as np
import pytest
import torch
from peft import get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BertConfig, BertLMHeadModel, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from foresight.common.errors import ArchitectureError, BudgetError, ConfigError, TrajectoryError, UnknownNameError
from foresight.model.architectures import layers_of
from foresight.model.components import component_table, features
from foresight.model.shipped import model_path
from foresight.studies.adapters import METHODS, adapt, circuit_ranks
from foresight.tasks import task
from foresight.tasks.evaluation import HeldOut
from support.planted import series_of
from support.tiny import FAMILIES, sentences, tiny, tiny_tokenizer, tokens

GENEROUS = 6000


def some_scores(model, seed=0, **changes):
    table = component_table(model, **changes)
    return series_of(table, np.random.default_rng(seed).random((len(table), 2)))


def adapter(method, model, parameters=GENEROUS, seed=0, steps=10, scores=None):
    scores = some_scores(model) if scores is None and method == "circuit_lora" else scores
    return adapt(method, model, parameters, seed=seed, steps=steps, scores=scores)


def trainable(model):
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def targets(model):
    names = [f"{layer.path}.{path}" for layer in layers_of(model) for path in layer.targets()]
    return {name: model.get_submodule(name) for name in names}


def per_rank(model):
    return sum(sum(features(module)) for module in targets(model).values())


def trainer(folder, model, adapter, callbacks=(), data=None, tokenizer=None, **settings):
    defaults = dict(
        use_cpu=True, bf16=False, report_to="none", disable_tqdm=True, save_strategy="no", logging_strategy="no",
        max_steps=10, per_device_train_batch_size=4, learning_rate=1e-2, activation_checkpointing=False,
    )  # fmt: skip
    return SFTTrainer(
        model=model, args=SFTConfig(output_dir=str(folder), **{**defaults, **settings}),
        train_dataset=data or sentences(), processing_class=tokenizer or tiny_tokenizer(),
        peft_config=adapter.config, callbacks=[*adapter.callbacks, *callbacks],
    )  # fmt: skip


# -- counts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("method", METHODS)
def test_the_count_is_true_and_within_the_budget(method, family):
    if (method, family) == ("shira", "gpt2"):
        with pytest.raises(
            ArchitectureError, match="'gpt2' has Conv1D; use policy 'random' with granularity 'weights'"
        ):
            adapter(method, tiny(family))
        return
    model = tiny(family)
    before, a_rank = model(tokens()).logits, per_rank(model)
    made = adapter(method, model)
    wrapped = get_peft_model(model, made.config)
    assert trainable(wrapped) == made.parameters <= GENEROUS
    if method in ("lora", "adalora", "shira"):
        assert made.parameters + a_rank > GENEROUS or made.config.r == 10  # of a 16 x 32 matrix, shira has all
    torch.testing.assert_close(wrapped(tokens()).logits, before, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_the_smallest_budget_is_named_and_works(method):
    model = tiny("qwen3")
    smallest = {"ia3": 2 * (32 + 32 + 48), "adalora": 2 * (per_rank(model) + 14)}.get(method, per_rank(model))
    with pytest.raises(BudgetError, match=f"'{method}'.* but only {smallest - 1} are .*allow at least {smallest}"):
        adapter(method, model, smallest - 1)
    assert adapter(method, model, smallest).parameters == smallest


def test_ia3_has_one_size():
    assert len({adapter("ia3", tiny(), parameters).parameters for parameters in (300, 3000, 30_000)}) == 1


def test_a_shira_mask_never_has_more_weights_than_a_matrix():
    model = tiny("mistral")  # keys and values: 16 x 32
    made = adapter("shira", model, 10**9)
    assert made.config.r == 16 * 32 // (16 + 32)
    assert trainable(get_peft_model(model, made.config)) == made.parameters


def test_scale_is_one_at_every_rank():
    for method in ("lora", "circuit_lora"):
        wrapped = get_peft_model(model := tiny(), adapter(method, model).config)
        scales = [m.scaling["default"] for m in wrapped.modules() if hasattr(m, "lora_A")]
        assert scales == [1.0] * 14
    config = adapter("adalora", tiny()).config
    assert config.lora_alpha == config.init_r > config.target_r >= 1


@pytest.mark.parametrize("method", METHODS)
def test_nothing_of_the_model_is_needed_but_its_shapes(method):
    model = tiny()
    scores = some_scores(model)
    abstract = copy.deepcopy(model).to("meta")
    made, again = (adapter(method, given, scores=scores) for given in (model, abstract))
    assert made.parameters == again.parameters
    if method != "shira":  # its masks are a function
        assert made.config.to_dict() == again.config.to_dict()


# -- seeds ------------------------------------------------------------------------------------------------------------


def shira_positions(seed, config=None):
    model = tiny()
    wrapped = get_peft_model(model, config or adapter("shira", model, seed=seed).config)
    found = [m.shira_indices["default"] for m in wrapped.modules() if hasattr(m, "shira_indices")]
    return [set(map(tuple, indices.T.tolist())) for indices in found]


def test_shira_masks_follow_the_seed_and_differ_from_linear_to_linear():
    first = shira_positions(1)
    assert first == shira_positions(1) != shira_positions(2)
    config = adapter("shira", tiny(), seed=1).config
    assert shira_positions(1, config) == shira_positions(1, config) == first
    queries = first[0], first[7]  # of both layers
    by_chance = len(queries[0]) ** 2 / 32**2
    assert len(queries[0] & queries[1]) < 2 * by_chance


@pytest.mark.parametrize("method", ["lora", "adalora"])
def test_the_first_factors_follow_torchs_seed(method):
    drawn = []
    for seed in (1, 1, 2):
        config = adapter(method, model := tiny()).config
        set_seed(seed)
        drawn.append({n: p for n, p in get_peft_model(model, config).named_parameters() if "lora_A" in n})
    same = [all(torch.equal(drawn[0][n], other[n]) for n in drawn[0]) for other in drawn[1:]]
    assert same == [True, False]


# -- training ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_only_the_adapter_is_trained(method, tmp_path):
    model = tiny()
    before = {n: p.clone() for n, p in model.named_parameters()}
    made = adapter(method, model)
    tuned = trainer(tmp_path, model, made, max_steps=4)
    start = {n: p.clone() for n, p in tuned.model.named_parameters() if p.requires_grad}
    tuned.train()
    after = dict(tuned.model.named_parameters())
    frozen = {n.removeprefix("base_model.model.").replace(".base_layer", ""): p
              for n, p in after.items() if "default" not in n}  # fmt: skip
    assert frozen.keys() == before.keys()
    assert all(torch.equal(frozen[n], before[n]) for n in before)
    assert sum(p.numel() for p in start.values()) == made.parameters
    moved = [not torch.equal(after[n], p) for n, p in start.items()]
    assert np.mean(moved) > 0.9


@pytest.mark.parametrize("method", METHODS)
def test_a_bf16_model_is_trained_alike(method, tmp_path):
    model = tiny(dtype=torch.bfloat16)
    made = adapter(method, model)
    tuned = trainer(tmp_path, model, made, max_steps=3)
    constants = {n: p.clone() for n, p in tuned.model.named_parameters() if ".ranknum." in n}
    tuned.train()
    assert trainable(tuned.model) == made.parameters
    assert all(p.dtype == torch.float32 for p in tuned.model.parameters() if p.requires_grad)
    assert all(torch.equal(tuned.model.get_parameter(n), p) for n, p in constants.items())
    assert bool(constants) == (method == "adalora")


class RanksLeft(TrainerCallback):
    """Ranks that AdaLoRA has left after every step: singular values that are not zero."""

    def __init__(self):
        self.counts = []

    def on_step_end(self, args, state, control, model=None, **kwargs):
        self.counts.append(sum(int((p != 0).sum()) for n, p in model.named_parameters() if "lora_E" in n))


def test_adalora_prunes_to_its_final_rank_and_keeps_it(tmp_path):
    model = tiny()
    made, watch = adapter("adalora", model, steps=20), RanksLeft()
    assert (made.config.tinit, made.config.tfinal, made.config.deltaT) == (2, 6, 1)
    trainer(tmp_path, model, made, [watch], max_steps=20).train()
    first, last = made.config.init_r * 14, made.config.target_r * 14
    assert watch.counts[:3] == [first] * 3  # pruning begins after step 2, counted from 0
    assert watch.counts == sorted(watch.counts, reverse=True) and last < watch.counts[6] < first
    assert watch.counts[14:] == [last] * 6


@pytest.mark.parametrize("steps", [2, 7, 150, 10_000])
def test_adalora_has_time_to_prune_in_a_run_of_any_length(steps, tmp_path):
    made = adapter("adalora", tiny(), steps=steps).config
    assert 0 <= made.tinit < steps - made.tfinal < steps and made.deltaT <= max(1, steps // 10)
    if steps < 10:
        watch = RanksLeft()
        model = tiny()
        trainer(tmp_path, model, adapter("adalora", model, steps=steps), [watch], max_steps=steps).train()
        assert watch.counts[-1] == made.target_r * 14


def test_the_penalty_of_adalora_is_not_in_the_loss_of_the_base_model():
    ids, model = tokens(), tiny()
    plain = model(ids, labels=ids).loss.item()
    wrapped = get_peft_model(model, adapter("adalora", model).config)
    assert wrapped(ids, labels=ids).loss.item() > plain + 0.1
    assert wrapped.get_base_model()(ids, labels=ids).loss.item() == pytest.approx(plain, abs=1e-5)


def test_training_more_than_was_matched_is_refused(tmp_path):
    class Thaw(TrainerCallback):
        def on_train_begin(self, args, state, control, model=None, **kwargs):
            next(iter(model.parameters())).requires_grad = True

    made = adapter("lora", model := tiny())
    made.callbacks.insert(0, Thaw())
    with pytest.raises(ConfigError, match=f"made for {made.parameters} trainable .* has {made.parameters + 64 * 32}"):
        trainer(tmp_path, model, made).train()


@pytest.mark.parametrize("method", METHODS)
def test_adapters_learn_on_the_shipped_model(method, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(model_path(), dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(model_path())
    made = adapter(method, model, model.num_parameters() // 20, steps=10)
    rows = task("ioi").dataset(tokenizer, "train", 16, seed=0)
    before = HeldOut(tokenizer, rows).measure(model)["loss"]
    set_seed(0)
    settings = dict(per_device_train_batch_size=16, learning_rate=0.03, lr_scheduler_type="constant")
    tuned = trainer(tmp_path, model, made, data=rows, tokenizer=tokenizer, **settings)
    tuned.train()
    assert HeldOut(tokenizer, rows).measure(tuned.model.get_base_model())["loss"] < 0.7 * before


# -- ranks by score ---------------------------------------------------------------------------------------------------


def planted_scores(model, layer, kind, mlp_block=None):
    table = component_table(model, mlp_block)
    return series_of(table, np.stack([np.ones(len(table)), (table.layer == layer) & (table.kind == kind)], 1))


def test_ranks_go_where_the_scores_are():
    ranks = circuit_ranks(tiny("qwen3"), planted_scores(tiny("qwen3"), 1, "head"), 3000)
    high = {name for name, rank in ranks.items() if rank > 1}
    assert high == {"model.layers.1.self_attn.q_proj", "model.layers.1.self_attn.o_proj"}
    assert abs(ranks["model.layers.1.self_attn.q_proj"] - ranks["model.layers.1.self_attn.o_proj"]) <= 1


def test_ranks_are_proportional_to_weights():
    model = tiny()
    table = component_table(model)
    values = np.where(table.layer == 1, 3.0, 1.0) / table.vectors.mean()
    ranks = circuit_ranks(model, series_of(table, values[:, None]), 8 * per_rank(model))
    by_layer = [np.mean([r for name, r in ranks.items() if f"layers.{layer}.mlp" in name]) for layer in (0, 1)]
    assert by_layer[1] / by_layer[0] == pytest.approx(3, rel=0.15)


def test_equal_scores_give_nearly_equal_ranks_in_like_linears():
    model = tiny()
    for value in (0.0, 1.0):
        values = np.full((len(component_table(model)), 1), value)
        ranks = circuit_ranks(model, series_of(component_table(model), values), 4 * per_rank(model))
        for part in ("self_attn.q_proj", "mlp.down_proj"):
            found = [rank for name, rank in ranks.items() if name.endswith(part)]
            assert max(found) - min(found) <= 1


@pytest.mark.parametrize("family", FAMILIES)
def test_ranks_use_the_budget_up_and_stay_useful(family):
    model = tiny(family)
    shapes = {name: features(module) for name, module in targets(model).items()}
    for seed in range(5):
        parameters = int(per_rank(model) * (1 + 6 * seed))
        ranks = circuit_ranks(model, some_scores(model, seed), parameters)
        left = parameters - sum(rank * sum(shapes[name]) for name, rank in ranks.items())
        assert ranks.keys() == shapes.keys() and left >= 0
        for name, rank in ranks.items():
            assert 1 <= rank <= min(shapes[name])
            assert rank == min(shapes[name]) or sum(shapes[name]) > left


def test_the_ranks_are_those_of_the_wrapped_model():
    model = tiny("phi3", num_hidden_layers=12)  # layers 1 and 10, 11 must not be taken for one another
    scores = planted_scores(model, 1, "head")
    made = adapter("circuit_lora", model, 3 * per_rank(model), scores=scores)
    ranks = circuit_ranks(model, scores, 3 * per_rank(model))
    wrapped = get_peft_model(model, made.config)
    found = {name.removeprefix("base_model.model."): m.r["default"]
             for name, m in wrapped.named_modules() if hasattr(m, "lora_A")}  # fmt: skip
    assert found == ranks and len(set(ranks.values())) > 1


def test_ranks_do_not_depend_on_the_width_of_mlp_blocks_if_neurons_score_alike():
    model = tiny()
    ranks = []
    for mlp_block in (1, 8, 48):
        table = component_table(model, mlp_block)
        layers = np.where(table.layer == 1, 3.0, 1.0)
        ranks.append(circuit_ranks(model, series_of(table, (layers * table.vectors)[:, None]), 3 * per_rank(model)))
    assert ranks[0] == ranks[1] == ranks[2]


# -- bad inputs -------------------------------------------------------------------------------------------------------


def test_what_cannot_work_is_refused():
    model = tiny()
    with pytest.raises(UnknownNameError, match="unknown adapter 'lorra' .did you mean 'lora'"):
        adapter("lorra", model)
    with pytest.raises(ConfigError, match="'circuit_lora' needs scores"):
        adapt("circuit_lora", model, GENEROUS, seed=0, steps=10)
    with pytest.raises(TrajectoryError, match="'kv' in layer 0, where this model has none"):
        adapter("circuit_lora", model, scores=some_scores(tiny("qwen3")))
    with pytest.raises(TrajectoryError, match="in layer 2, where"):
        adapter("circuit_lora", model, scores=some_scores(tiny(num_hidden_layers=3)))
    with pytest.raises(ConfigError, match="over 1 steps; expected at least 2"):
        adapter("adalora", model, steps=1)
    for parameters in (0, -5):
        with pytest.raises(BudgetError, match=f"only {parameters} are allowed"):
            adapter("lora", model, parameters)
    sizes = dict(vocab_size=64, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=32)
    with pytest.raises(ArchitectureError, match="'bert' is not supported"):
        adapter("lora", BertLMHeadModel(BertConfig(is_decoder=True, **sizes)))
