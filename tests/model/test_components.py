"""Components: every vector belongs to exactly one, and slices and taps name the same unit of the model."""

import numpy as np
import pytest
import torch

from foresight.common.errors import ArchitectureError, ConfigError
from foresight.model.components import component_table, features, stored_transposed
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


def test_unknown_family_says_what_to_add():
    model = tiny("llama")
    model.config.model_type = "lama"
    with pytest.raises(ArchitectureError, match=r"did you mean 'llama'.*architectures\.py"):
        component_table(model)


def test_mixture_of_experts_is_refused():
    from transformers import AutoModelForCausalLM, MixtralConfig

    config = MixtralConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        num_key_value_heads=2, num_local_experts=2,
    )  # fmt: skip
    with pytest.raises(ArchitectureError, match="mixture of experts"):
        component_table(AutoModelForCausalLM.from_config(config))


def test_unexpected_shape_is_refused():
    model = tiny("llama")
    model.config.num_attention_heads = 8
    model.config.head_dim = 8
    with pytest.raises(ArchitectureError, match="vectors, but the config implies"):
        component_table(model)


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
