"""Components: every vector belongs to exactly one, and slices and taps name the same unit of the model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from foresight.common.errors import ArchitectureError, ConfigError
from foresight.model.architectures import Attention, layers_of
from foresight.model.components import ComponentTable, Heads, component_table, features, stored_transposed
from foresight.model.self_check import check_components
from support.tiny import FAMILIES, tiny, tokens


@pytest.mark.parametrize("family", FAMILIES)
def test_components_partition_the_vectors(family):
    table = component_table(tiny(family))
    ids = np.concatenate([table.vector_ids([i]) for i in range(len(table))])
    assert sorted(ids) == list(range(table.n_vectors)) == list(range(sum(t.n for t in table.targets)))
    assert table.n_vectors * table.d_model < table.model_parameters


@pytest.mark.parametrize("family", FAMILIES)
def test_row_slices_feed_exactly_the_tap_of_their_component(family):
    """Perturbing a component's rows in layer 0 changes its own tapped activations and no other component's there."""
    model, ids = tiny(family), tokens()
    table = component_table(model)
    for component in [c for c in table if c.layer == 0]:
        clean = _taps(model, table, ids)
        _shift_rows(model, component, 0.5)
        shifted = _taps(model, table, ids)
        _shift_rows(model, component, -0.5)
        moved = {name for name in clean if not torch.allclose(clean[name], shifted[name], atol=1e-6)}
        # Keys and values feed the heads of their group; every MLP block sees what the heads did.
        if component.kind == "mlp":
            assert moved == {component.name}
        elif component.kind == "head":
            assert component.name in moved and not any(".head." in m or ".kv." in m for m in moved - {component.name})
        else:
            share = sum(c.kind == "head" for c in table if c.layer == 0) // sum(
                c.kind == "kv" for c in table if c.layer == 0
            )
            heads = {f"L0.head.{h}" for h in range(component.index * share, (component.index + 1) * share)}
            assert {m for m in moved if ".mlp." not in m} == {component.name, *heads}


@pytest.mark.parametrize("family", FAMILIES)
def test_column_slice_reads_the_tap(family):
    """Zeroing a head's or block's columns is the same as zeroing its tapped activation."""
    model, ids = tiny(family), tokens()
    table = component_table(model)
    for component in [c for c in table if c.kind != "kv"][:: len(table) // 4]:
        tap, column = component.taps[0], component.slices[-1]
        assert column.axis == "column" and (tap.start, tap.stop) == (column.start, column.stop)

        def zero(module, args, tap=tap):
            x = args[0].clone()
            x[..., tap.start : tap.stop] = 0
            return (x,)

        module = model.get_submodule(tap.module)
        handle = module.register_forward_pre_hook(zero)
        patched = model(ids).logits
        handle.remove()
        saved = module.weight.data.clone()
        weight = module.weight.data if not stored_transposed(module) else module.weight.data.T
        weight[:, column.start : column.stop] = 0
        assert torch.allclose(model(ids).logits, patched, atol=1e-5)
        module.weight.data = saved


def test_default_block_is_no_larger_than_a_head():
    table = component_table(tiny("llama"))
    head = table.vectors[table.kind == "head"].max()
    assert head / 2 < table.vectors[table.kind == "mlp"].max() <= head


def test_last_block_takes_the_remainder():
    table = component_table(tiny("llama"), mlp_block=20)
    blocks = [c for c in table if c.kind == "mlp" and c.layer == 1]
    assert [c.n_vectors // 3 for c in blocks] == [20, 20, 8]


def test_hash_follows_the_table():
    assert component_table(tiny("llama")).hash == component_table(tiny("llama", seed=1)).hash
    assert component_table(tiny("llama")).hash != component_table(tiny("llama"), mlp_block=4).hash


@pytest.mark.parametrize("block", [0, -3])
def test_block_width_is_checked(block):
    with pytest.raises(ConfigError, match="mlp_block"):
        component_table(tiny("llama"), mlp_block=block)


def test_a_family_is_known_by_its_layout_not_by_its_name():
    model = tiny("llama")
    model.config.model_type = "novel"
    assert component_table(model).hash == component_table(tiny("llama")).hash


def test_an_unknown_layout_says_what_was_found_and_what_to_add():
    model = tiny("llama")
    for layer in model.model.layers:
        layer.self_attn.query, layer.mlp.gate = layer.self_attn.q_proj, layer.mlp.up_proj
        del layer.self_attn.q_proj, layer.mlp.up_proj, layer.mlp.gate_proj
    with pytest.raises(ArchitectureError, match=r"(?s)self_attn\.k_proj.*self_attn\.query.*ATTENTIONS or MLPS"):
        component_table(model)


def test_a_layer_without_attention_contributes_its_mlp():
    model = tiny("llama")
    del model.model.layers[0].self_attn.k_proj
    del model.model.layers[0].self_attn.q_proj
    table = component_table(model)
    assert set(table.kind[table.layer == 0]) == {"mlp"} and set(table.kind[table.layer == 1]) == {"head", "mlp"}
    assert len(set(table.vectors[table.kind == "mlp"])) == 1


def test_layers_that_share_their_weights_are_refused():
    model = tiny("llama")
    model.model.layers[1] = model.model.layers[0]
    with pytest.raises(ArchitectureError, match="layers share weights"):
        component_table(model)


@pytest.mark.parametrize("rows", [12, 24])
def test_shapes_that_do_not_fit_are_refused(rows):
    model = tiny("llama")
    model.model.layers[1].self_attn.v_proj = torch.nn.Linear(32, rows)
    with pytest.raises(ArchitectureError, match="layers.1.self_attn.o_proj reads 32 features and a head has 8"):
        component_table(model)


def test_an_mlp_whose_shapes_do_not_fit_is_refused():
    model = tiny("llama")
    model.model.layers[1].mlp.up_proj = torch.nn.Linear(32, 40)
    with pytest.raises(ArchitectureError, match="up_proj has 40 rows and .* reads 48 neurons"):
        component_table(model)


def test_order_of_fused_rows_is_checked_by_a_pass():
    """GPT-NeoX with its rows stacked: the same names and shapes."""
    model = tiny("gpt_neox")
    table = component_table(model)
    check_components(model, table)
    stacked = Attention("attention.dense", 3 * ("attention.query_key_value",))
    heads = replace(Heads.of(model, replace(layers_of(model)[0], attention=stacked)), interleaved=False)
    wrong = ComponentTable(
        [*heads.components(0), *(c for c in table if c.layer == 1 or c.kind == "mlp")], table.targets, table.d_model,
        table.model_parameters,
    )  # fmt: skip
    with pytest.raises(ArchitectureError, match=r"'gpt_neox' is not what its layout says: without .* L0\.head"):
        check_components(model, wrong)


class _Quantized(torch.nn.Linear):
    def forward(self, x):
        return torch.nn.functional.linear(x, self.weight.sign(), self.bias)


def test_a_linear_that_is_none_is_refused():
    model = tiny("llama")
    model.model.layers[0].mlp.down_proj.__class__ = _Quantized
    with pytest.raises(ArchitectureError, match="down_proj is a _Quantized, which does not compute"):
        check_components(model, component_table(model))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("family", FAMILIES)
def test_check_leaves_the_model_as_it_was(family, dtype):
    model, ids = tiny(family, dtype=dtype).train(), tokens()
    torch.manual_seed(3)
    before = torch.rand(1)
    torch.manual_seed(3)
    check_components(model, component_table(model))
    assert torch.equal(torch.rand(1), before) and model.training
    assert torch.equal(model.eval()(ids).logits, tiny(family, dtype=dtype)(ids).logits)


def _taps(model, table, ids):
    """Tapped activations by component name (both taps of a KV group side by side), all layers."""
    seen, handles = {}, []
    for component in [c for c in table if c.layer == 0]:
        for tap in component.taps:
            module = model.get_submodule(tap.module)

            def keep(x, name=component.name, tap=tap):
                seen.setdefault(name, []).append(x[..., tap.start : tap.stop].detach().clone())

            if tap.side == "input":
                handles.append(module.register_forward_pre_hook(lambda m, a, keep=keep: keep(a[0])))
            else:
                handles.append(module.register_forward_hook(lambda m, a, o, keep=keep: keep(o)))
    with torch.no_grad():
        model(ids)
    for handle in handles:
        handle.remove()
    return {name: torch.cat(parts, -1) for name, parts in seen.items()}


def _shift_rows(model, component, amount):
    for piece in component.slices:
        if piece.axis == "row":
            module = model.get_submodule(piece.module)
            weight = module.weight.data.T if stored_transposed(module) else module.weight.data
            assert features(module) == tuple(weight.shape)
            weight[piece.start : piece.stop] += amount * torch.linspace(-1, 1, weight.shape[1])
