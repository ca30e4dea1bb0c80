"""Where a model keeps its attention heads and MLPs: layouts by the names of modules, looked for in every layer.

A family is not a name but a layout: whatever has its modules where Llama has them is read as Llama is, and every layer
has the components that are found in it. What names cannot tell, shapes do (`components`), and a pass through the model
(`self_check`). A new layout is a row of `ATTENTIONS` or `MLPS`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from torch import nn
from transformers.pytorch_utils import Conv1D

from ..common.errors import ArchitectureError


@dataclass(frozen=True)
class Attention:
    """Paths below a layer. One Linear may have several roles; a layer that borrows keys and values has none for them.

    Fused rows are *stacked* (all queries, then all keys, then all values: Phi-3, GPT-2) or *interleaved* (head by head,
    each with its query, key and value: GPT-NeoX).
    """

    out: str
    rows: tuple[str, ...]
    """Query, key and value; or only the query; or nothing, where rows are not of length d_model."""
    interleaved: bool = False

    def targets(self) -> tuple[str, ...]:
        return (*self.rows, self.out)


@dataclass(frozen=True)
class Mlp:
    """Paths below a layer: Linears whose rows are neurons (gate and up, which may be one, or just up), and down."""

    down: str
    rows: tuple[str, ...]

    def targets(self) -> tuple[str, ...]:
        return (*self.rows, self.down)


@dataclass(frozen=True)
class Layer:
    """What of one layer can be masked; `path` leads to the layer. Either may be absent."""

    path: str
    attention: Attention | None
    mlp: Mlp | None

    def targets(self) -> tuple[str, ...]:
        """The path below the layer of every Linear that a mask can touch, each once, in forward order."""
        return tuple(dict.fromkeys(path for part in (self.attention, self.mlp) if part for path in part.targets()))


def _below(where: str, names: str) -> tuple[str, ...]:
    return tuple(f"{where}.{name}" if where else name for name in names.split())


ATTENTIONS = (
    *(
        Attention(f"{where}.{out}", _below(where, "q_proj k_proj v_proj"))
        for where in ("self_attn", "attn", "attn.attention", "temporal_block", "mixer")
        for out in ("o_proj", "out_proj", "dense", "Wo")
    ),
    Attention("self_attn.o_proj", 3 * ("self_attn.qkv_proj",)),
    Attention("self_attn.out_proj", 3 * ("self_attn.qkv_proj",), interleaved=True),
    Attention("attn.c_proj", 3 * ("attn.c_attn",)),
    Attention("attn.out_proj", 3 * ("attn.Wqkv",)),
    *(
        Attention(f"{where}.dense", 3 * (f"{where}.query_key_value",), interleaved=True)
        for where in ("attention", "self_attention", "self_attn")
    ),
    Attention("self_attn.o_proj", ("self_attn.q_proj",)),
)
"""Layouts of attention; a layer has the first of which all modules are there."""

_LATENT = ("self_attn.kv_b_proj", Attention("self_attn.o_proj", ()))
"""Multi-head latent attention: heads write to the residual stream, but do not read it themselves."""

MLPS = (
    *(
        Mlp(f"{where}.down_proj", _below(where, up))
        for where in (
            "mlp", "feed_forward", "mlp_block", "mlp.shared_experts", "mlp.shared_expert", "feed_forward.shared_expert",
            "ffn", "mixer", "mixer.shared_experts",
        )
        for up in ("gate_proj up_proj", "gate_up_proj", "up_proj")
    ),
    Mlp("feed_forward.w2", _below("feed_forward", "w1 w3")),
    Mlp("shared_mlp.output_linear", ("shared_mlp.input_linear",)),
    *(
        Mlp(f"{where}.{down}" if where else down, _below(where, up))
        for where in ("mlp", "")
        for up, down in (
            ("c_fc", "c_proj"), ("dense_h_to_4h", "dense_4h_to_h"), ("fc1", "fc2"), ("fc_in", "fc_out"), ("Wi", "Wo"),
        )
    ),
)  # fmt: skip
"""Layouts of MLPs, likewise. Of a mixture of experts it is the experts that every token sees."""


def layers_of(model: nn.Module) -> tuple[Layer, ...]:
    """The layers of a Hugging Face causal LM, or of the text tower of a larger model.

    Raises:
        ArchitectureError: no layer has a layout that is known, or layers share their weights; the message says what
            would have to be added.
    """
    name, stack = _stack(model)
    family = model.config.model_type
    found = tuple(Layer(f"{name}.{i}", _attention(layer), _mlp(layer)) for i, layer in enumerate(stack))
    targets = [stack[i].get_submodule(path) for i, layer in enumerate(found) for path in layer.targets()]
    if not targets:
        inside = ", ".join(dict.fromkeys(path for layer in stack for path, _ in _linears(layer)))
        raise ArchitectureError(
            f"model type {family!r} is not supported: no layer of {name or 'the model'} has attention or an MLP in a "
            f"layout that is known. Its Linears: {inside or 'none'}. To support it, add a row to ATTENTIONS or MLPS in "
            "foresight/model/architectures.py, and the family to eval/families.py."
        )
    if len({id(module) for module in targets}) < len(targets):
        raise ArchitectureError(
            f"model type {family!r} is not supported: its layers share weights, so that a component would lie in "
            "several layers. Use a model whose layers have their own."
        )
    return found


def tower_of(model: nn.Module) -> str:
    """The path of what turns tokens into last hidden states: the text tower of a model that has others."""
    named = {id(module): name for name, module in model.named_modules()}
    candidates = (model.get_decoder(), model.base_model, *model.children())
    tower = next((module for module in candidates if module is not model and _has_layers(module)), None)
    if tower is None:
        raise ArchitectureError(f"model type {model.config.model_type!r} is not supported: it has no list of layers")
    return named[id(tower)]


def _has_layers(module: nn.Module) -> bool:
    return any(isinstance(inner, nn.ModuleList) for inner in module.modules())


def _stack(model: nn.Module) -> tuple[str, nn.ModuleList]:
    """The list of decoder layers, and its path: the outermost in which a layout is found."""
    tower = tower_of(model)
    inside = model.get_submodule(tower).named_modules(prefix=tower)
    lists = [(name, module) for name, module in inside if isinstance(module, nn.ModuleList)]
    known = (item for item in lists if any(_attention(layer) or _mlp(layer) for layer in item[1]))
    return next(known, lists[0])


def _attention(layer: nn.Module) -> Attention | None:
    linears = dict(_linears(layer))
    marker, latent = _LATENT
    candidates = (latent,) if marker in linears else ATTENTIONS
    return next((a for a in candidates if all(path in linears for path in a.targets())), None)


def _mlp(layer: nn.Module) -> Mlp | None:
    linears = dict(_linears(layer))
    return next((m for m in MLPS if all(path in linears for path in m.targets())), None)


def _linears(layer: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for name, module in layer.named_modules():
        if isinstance(module, nn.Linear | Conv1D):
            yield name, module
