"""Policy `random` by layer: whole layers first, by chance alone."""

import numpy as np
import pytest

from foresight.common.errors import BudgetError
from foresight.model.components import component_table
from foresight.policies.policy import View
from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from support.planted import make_table
from support.policies import make_policy
from support.tiny import FAMILIES, sentences, tiny, tiny_tokenizer

TABLE = make_table(layers=5, heads=4, blocks=4)  # 28 vectors a layer: heads of 4, MLP blocks of 3
LAYER = 28


def draw(n_vectors, step=0, seed=0, table=TABLE, redraw=True):
    policy = make_policy("random", table=table, by="layer", redraw=redraw)
    return policy.mask(View(table, n_vectors, step, total_steps=1000, seed=seed))


def by_layer(mask, table=TABLE):
    """Vectors of the mask in every layer."""
    return np.bincount(table.layer[list(mask.components)], table.vectors[list(mask.components)], 5).astype(int)


@pytest.mark.parametrize("layers", range(1, 6))
def test_a_budget_of_whole_layers_is_whole_layers(layers):
    for step in range(20):
        assert sorted(by_layer(draw(layers * LAYER, step))) == [0] * (5 - layers) + [LAYER] * layers


@pytest.mark.parametrize("n_vectors", [3, 4, 13, LAYER + 1, LAYER + 14, 2 * LAYER + 27, 139])
def test_whole_layers_come_first_and_the_rest_is_used_up(n_vectors):
    for step in range(20):
        mask = draw(n_vectors, step)
        found, left_out = by_layer(mask), set(range(len(TABLE))) - set(mask.components)
        assert (found == LAYER).sum() == n_vectors // LAYER
        assert all(TABLE.vectors[i] > n_vectors - found.sum() >= 0 for i in left_out)


def test_below_one_layer_it_is_components_of_a_single_one():
    for step in range(50):
        assert (by_layer(draw(12, step)) > 0).sum() == 1  # 12 is four blocks, three heads; any random draw fits but one
    with pytest.raises(BudgetError, match="no component fits into 2 vectors"):
        draw(2)


def test_it_depends_on_seed_and_step_alone():
    assert draw(40, 7, 3) == draw(40, 7, 3)
    assert len({draw(40, step, 3) for step in range(20)}) > 15
    assert len({draw(40, 7, seed) for seed in range(20)}) > 15
    assert len({draw(40, step, 3, redraw=False) for step in range(20)}) == 1


def test_nothing_but_its_order_differs_from_single_components():
    mask = make_policy("random", table=TABLE, redraw=True).mask(View(TABLE, LAYER, 0, total_steps=1000))
    assert sorted(by_layer(mask)) != [0, 0, 0, 0, LAYER] == sorted(by_layer(draw(LAYER)))


def test_no_layer_and_no_component_within_a_kind_is_favoured():
    taken, whole = np.zeros(len(TABLE)), np.zeros(5)
    for step in range(1000):
        mask = draw(LAYER + 12, step)
        taken[list(mask.components)] += 1
        whole += by_layer(mask) == LAYER
    assert abs(whole / 1000 - 1 / 5).max() < 0.05
    for kind in ("head", "mlp"):
        share = taken[TABLE.kind == kind] / 1000
        assert abs(share - share.mean()).max() < 0.06


@pytest.mark.parametrize("family", FAMILIES)
def test_a_layer_of_every_family_is_all_its_vectors(family):
    table = component_table(tiny(family))
    mask = draw(table.n_vectors // 2, table=table)
    ids = set(table.vector_ids(mask.components).tolist())
    layer = int(table.layer[mask.components[0]])
    of_layer = [t for t in table.targets if f".{layer}." in t.module]
    assert ids == {i for t in of_layer for i in range(t.offset, t.offset + t.n)}


def test_a_run_trains_the_layers_of_its_schedule_and_nothing_else(tmp_path):
    model = tiny(num_hidden_layers=4)
    before = {name: p.clone() for name, p in model.named_parameters()}
    args = ForesightConfig(
        output_dir=str(tmp_path), policy="random", policy_params={"by": "layer", "redraw": True}, budget=0.2,
        remask_every=2, max_steps=4, learning_rate=1e-2,
        use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", disable_tqdm=True,
        save_strategy="no", per_device_train_batch_size=4, seed=3,
    )  # fmt: skip
    trainer = ForesightTrainer(model=model, args=args, train_dataset=sentences(), processing_class=tiny_tokenizer())
    trainer.train()
    table, entries = trainer.table, trainer.schedule.entries
    assert [step for step, _ in entries] == [0, 2]
    trained = {
        name for _, mask in entries for c in mask.components for name in {s.module for s in table.components[c].slices}
    }
    merged = trainer.bank.merged_state_dict()
    changed = {
        name.removesuffix(".weight") for name, p in before.items() if not np.array_equal(merged[name], p.detach())
    }
    assert changed == trained
    assert len({int(table.layer[c]) for c in entries[0][1].components}) <= 2
