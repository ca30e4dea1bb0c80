"""Module names per model family: the table that a new family has to be added to.

A *role* is a group of rows (output features) of a Linear that belong to components: query, key, value, gate, up. Roles
that share a Linear are either *stacked* (all queries, then all keys, then all values: Phi-3, GPT-2) or *interleaved*
(head by head, each with its query, key and value: GPT-NeoX).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from ..common.errors import ArchitectureError, did_you_mean

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Architecture:
    """Where one family keeps its layers, attention and MLP, as module paths below a layer."""

    layers: str
    query: str
    key: str
    value: str
    attention_out: str
    up: tuple[str, ...]
    """Linears whose rows are MLP neurons: gate and up, or just up."""
    down: str
    interleaved: bool = False
    """Fused query/key/value rows are interleaved by head rather than stacked by role."""

    def targets(self) -> tuple[str, ...]:
        """List the path below a layer of every Linear that a mask can touch, each once, in forward order."""
        return tuple(dict.fromkeys((self.query, self.key, self.value, self.attention_out, *self.up, self.down)))


_LLAMA = Architecture(
    layers="model.layers",
    query="self_attn.q_proj",
    key="self_attn.k_proj",
    value="self_attn.v_proj",
    attention_out="self_attn.o_proj",
    up=("mlp.gate_proj", "mlp.up_proj"),
    down="mlp.down_proj",
)
_QKV, _GATE_UP = "self_attn.qkv_proj", "mlp.gate_up_proj"

ARCHITECTURES: dict[str, Architecture] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text"), _LLAMA),
    "phi3": replace(_LLAMA, query=_QKV, key=_QKV, value=_QKV, up=(_GATE_UP, _GATE_UP)),
    "gpt2": Architecture(
        layers="transformer.h",
        query="attn.c_attn",
        key="attn.c_attn",
        value="attn.c_attn",
        attention_out="attn.c_proj",
        up=("mlp.c_fc",),
        down="mlp.c_proj",
    ),
    "gpt_neox": Architecture(
        layers="gpt_neox.layers",
        query="attention.query_key_value",
        key="attention.query_key_value",
        value="attention.query_key_value",
        attention_out="attention.dense",
        up=("mlp.dense_h_to_4h",),
        down="mlp.dense_4h_to_h",
        interleaved=True,
    ),
}

_EXPERT_FIELDS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size")


def architecture_of(model: nn.Module) -> Architecture:
    """Look up the family of a Hugging Face causal LM by its ``config.model_type``.

    Raises:
        ArchitectureError: an unknown family, or a mixture of experts; the message says what would have to be added.
    """
    config = model.config
    family = config.model_type
    experts = [f for f in _EXPERT_FIELDS if getattr(config.get_text_config(), f, None)]
    if experts:
        raise ArchitectureError(
            f"model type {family!r} is a mixture of experts ({', '.join(experts)} set): its experts are fused 3-D "
            "parameters, not Linears, and cannot be masked yet. Use a dense model; support would need components "
            "over expert slices in foresight/model/components.py and a bank hook for the fused expert modules."
        )
    if family not in ARCHITECTURES:
        raise ArchitectureError(
            f"model type {family!r} is not supported{did_you_mean(family, ARCHITECTURES)}; supported: "
            f"{', '.join(sorted(ARCHITECTURES))}. To support it, add a row to ARCHITECTURES in "
            "foresight/model/architectures.py that names its layer list, query/key/value and output projections, and "
            "its MLP up (gate) and down projections, and a tiny model of it to tests/support/tiny.py."
        )
    return ARCHITECTURES[family]
