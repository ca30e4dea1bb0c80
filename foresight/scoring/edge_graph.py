"""The graph that edges are scored on: what writes into the residual stream, what reads it, and in which order.

A *writer* is a Linear whose output is added to the residual stream. Each of its sources owns a slice of its input
features: the heads of an output projection, the MLP of a down projection. A *reader* is a norm that
reads the residual stream. Its destinations are what follows it: the query, key and value rows of each head or KV group,
the MLP as a whole, or the logits. A new family needs a row in NORMS.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import nn

from ..common.errors import ConfigError
from ..model.architectures import layers_of

if TYPE_CHECKING:
    from ..model.components import ComponentTable

ROLES = ("q", "k", "v", "mlp", "logits")


@dataclass(frozen=True)
class Norms:
    """Module paths of a family's norms, relative to a layer except for `final`. The `post` norms lie between an output
    projection and the residual stream.
    """

    attention: str
    mlp: str
    final: str
    attention_post: str | None = None
    mlp_post: str | None = None


_LLAMA_LIKE = Norms("input_layernorm", "post_attention_layernorm", "model.norm")
_GEMMA = Norms(
    "input_layernorm",
    "pre_feedforward_layernorm",
    "model.norm",
    attention_post="post_attention_layernorm",
    mlp_post="post_feedforward_layernorm",
)

NORMS: dict[str, Norms] = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "phi3"), _LLAMA_LIKE),
    **dict.fromkeys(("gemma2", "gemma3_text"), _GEMMA),
    "gpt2": Norms("ln_1", "ln_2", "transformer.ln_f"),
    "gpt_neox": Norms("input_layernorm", "post_attention_layernorm", "gpt_neox.final_layer_norm"),
}


@dataclass(frozen=True)
class Part:
    """Features [start, stop) of a module that belong to a node: of a writer's input, or of what a reader's norm feeds.

    `role` is what such a destination reads, one of `ROLES`.
    """

    node: int
    module: str
    start: int = 0
    stop: int | None = None
    role: str = ""


@dataclass(frozen=True)
class Writer:
    """A Linear that adds to the residual stream, directly or through its own norm, and its sources."""

    module: str
    post_norm: str | None
    sources: tuple[Part, ...]


@dataclass(frozen=True)
class Reader:
    """A norm on the residual stream and its destinations.

    Attributes:
        norm: module name.
        n_writers: number of the graph's writers that come before it (the first ones); the input embeddings always do.
        destinations: rows of projections after an attention's norm; of other norms, their whole own output.
    """

    norm: str
    n_writers: int
    destinations: tuple[Part, ...]


@dataclass(frozen=True)
class EdgeGraph:
    """Node names by id, and writers and readers in forward order.

    Node 0 is ``input``, the input embeddings. Heads and KV groups have the names of the component table; ``L3.mlp`` is
    the whole MLP of a layer.
    """

    names: tuple[str, ...]
    writers: tuple[Writer, ...]
    readers: tuple[Reader, ...]

    def sources_of(self, reader: Reader) -> np.ndarray:
        """Node ids of all sources that come before a reader, the input first: int32."""
        nodes = (part.node for writer in self.writers[: reader.n_writers] for part in writer.sources)
        return np.array([0, *nodes], np.int32)


def edge_graph(model: nn.Module, table: ComponentTable) -> EdgeGraph:
    """The graph of a model.

    Raises:
        ArchitectureError: unknown family.
        ConfigError: the family's norms are not in NORMS.
    """
    family = model.config.model_type
    if family not in NORMS:
        raise ConfigError(
            f"edge scores do not know the norms of model type {family!r}; known: {', '.join(sorted(NORMS))}. Add a row "
            "to NORMS in foresight/scoring/edge_graph.py, or score components only"
        )
    norms, parallel = NORMS[family], getattr(model.config, "use_parallel_residual", False)
    names, writers, readers = ["input"], list[Writer](), list[Reader]()

    def node(name: str) -> int:
        names.append(name)
        return len(names) - 1

    for layer, parts in enumerate(layers_of(model)):
        assert parts.attention and parts.mlp  # every layer of the families in NORMS has both
        prefix = f"{parts.path}."
        projections, heads = list[Part](), list[Part]()
        attention_out, down = prefix + parts.attention.out, prefix + parts.mlp.down
        for i in np.flatnonzero((table.layer == layer) & (table.kind != "mlp")):
            component = table.components[int(i)]
            me = node(component.name)
            if component.kind == "head":
                heads.append(Part(me, attention_out, component.taps[0].start, component.taps[0].stop))
            rows = [s for s in component.slices if s.axis == "row"]
            # with GQA, heads have a query only
            for role, part in zip("kv" if component.kind == "kv" else "qkv", rows, strict=False):
                projections.append(Part(me, part.module, part.start, part.stop, role))
        mlp = node(f"L{layer}.mlp")
        before = len(writers)
        attention_norm, mlp_norm = prefix + norms.attention, prefix + norms.mlp
        readers.append(Reader(attention_norm, before, tuple(projections)))
        readers.append(Reader(mlp_norm, before + (not parallel), (Part(mlp, mlp_norm, role="mlp"),)))
        for module, post, sources in (
            (attention_out, norms.attention_post, tuple(heads)),
            (down, norms.mlp_post, (Part(mlp, down),)),
        ):
            writers.append(Writer(module, post and prefix + post, sources))
    readers.append(Reader(norms.final, len(writers), (Part(node("logits"), norms.final, role="logits"),)))
    return EdgeGraph(tuple(names), tuple(writers), tuple(readers))
