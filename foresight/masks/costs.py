"""What a train step costs under a mask: its operations, and the activations that it keeps.

Our own model of both, from shapes alone, for a bank that computes as `foresight.bank.vectors` does. A mask trains some
vectors; the lowest Linear that has one is where the backward pass ends. Below it nothing is differentiated and nothing
kept. From there up every frozen Linear passes gradients on to its inputs, which takes as much as its forward pass, and
none has a weight gradient; each trained vector takes its own products with all positions.
"""

from __future__ import annotations

import numpy as np
from torch import nn
from transformers.pytorch_utils import Conv1D

from ..model.architectures import Layer, layers_of
from ..model.components import ComponentTable, Heads, Neurons, features

PLACES = 4
"""Groups of Linears in a layer, in forward order: query, key and value; attention's output; gate and up; down."""
ATTENTION_BACKWARD = 2.5
"""Of attention's own forward: four products instead of two, and the scores once more, as fused kernels do."""


class StepCosts:
    """Costs of a train step of one model, given the components that it trains.

    Operations are multiply-add pairs per token. What is not a matrix product is left out: norms, the loss, and the
    optimizer, which would make shares of full fine-tuning smaller. The count is too high where attention and MLP of a
    layer run side by side, or where attention looks back over a window only.

    Args:
        model: any that `component_table` takes, also on the meta device.
        length: tokens per row.
        checkpointing: layers that the backward pass goes through are computed once more, and keep only their inputs.
    """

    def __init__(self, model: nn.Module, table: ComponentTable, length: float, checkpointing: bool = False):
        self.d_model, self.checkpointing, self.n_components = table.d_model, checkpointing, len(table)
        self._weights = table.d_model * table.vectors.astype(np.int64)
        layers = layers_of(model)
        shapes, place = np.zeros((len(layers), 4), np.int64), dict[str, int]()
        for i, layer in enumerate(layers):
            parts = _places(layer)
            place |= {f"{layer.path}.{path}": PLACES * i + at for at, paths in enumerate(parts) for path in paths}
            shapes[i] = shape_of(model, layer)
        width, keys, gates, neurons = shapes.T
        self._place, self._columns = np.full(len(table), PLACES * len(layers)), np.zeros(len(table), np.int64)
        self._reads = np.full(len(table), -1)
        weights, known = np.zeros(PLACES * len(layers)), set[str]()
        for target in table.targets:
            owner = table.owner[target.ids]
            np.minimum.at(self._place, owner, place[target.module])
            weights[place[target.module]] += target.n * table.d_model
            known.add(target.module)
            if target.axis == "column":
                self._columns += np.bincount(owner, minlength=len(table))
            else:
                self._reads[owner] = place[target.module]
        for i, layer in enumerate(layers):
            weights[PLACES * i] += _others(model, layer, known)

        d_model = np.full(len(layers), self.d_model)
        self._inputs = np.stack([d_model, width, d_model, neurons], 1).ravel()
        attention = np.where(width > 0, 2 * self.d_model + 3 * width + 2 * keys, 0)
        self._kept = np.stack([attention, 2 * self.d_model + (1 + gates) * neurons], 1).ravel()

        scores = np.zeros_like(weights)
        scores[::PLACES] = width * (length + 1)  # queries with keys and weights with values, each half of the square
        head = float(np.prod(features(model.get_output_embeddings())))
        layer_sums = (weights + scores).reshape(-1, PLACES).sum(1)
        again = np.repeat(_from(layer_sums), PLACES) if checkpointing else np.zeros_like(weights)
        # The lowest Linear itself passes no gradient on; `scores` are at its layer's first place, so count from there.
        inputs = head + _from(weights) + ATTENTION_BACKWARD * _from(scores) + again
        self._backward = inputs - weights
        self.floor = (head + float(layer_sums.sum()), float(inputs[0]))
        """Operations of a forward pass, and of a backward pass to the embeddings without any weight gradient."""
        self.full = sum(self.floor) + head + float(weights.sum())
        """Operations of a step of full fine-tuning."""

    def operations(self, components: np.ndarray) -> tuple[float, float]:
        """Operations per token of the forward and of the backward pass that train some components, int64 [k], k > 0."""
        trained = float(self._weights[components].sum())
        forward, backward = self.floor[0], float(self._backward[self._place[components].min()])
        return forward + trained, backward + (2 + self.checkpointing) * trained

    def share(self, components: np.ndarray) -> float:
        """Operations that train some components, int64 [k], as a share of full fine-tuning's."""
        return sum(self.operations(components)) / self.full

    def activations(self, components: np.ndarray) -> int:
        """Estimate the elements per token that autograd keeps at the peak when some components, int64 [k], are trained.

        Our own count for a layer with attention width H (queries), K (keys) and F neurons: 4 d_model for norms and
        residuals, 3 H + 2 K for attention without its score matrix, F for each of gate, up and activation function.
        Trained rows keep the inputs of their Linears, once for those that share them; a trained column keeps one
        element. Within a factor of 1.4 of what autograd saves in fp32 for the families tried, if all components are
        trained. Checkpointing keeps d_model per layer, and all of one layer.
        """
        halves = self._place[components] // (PLACES // 2)
        kept = np.where(np.arange(len(self._kept)) >= halves.min(), self._kept, 0)
        np.add.at(kept, halves, self._columns[components])
        reads = np.unique(self._reads[components])
        np.add.at(kept, reads[reads >= 0] // (PLACES // 2), self._inputs[reads[reads >= 0]])
        by_layer = kept.reshape(-1, 2).sum(1)
        if self.checkpointing:
            return int(self.d_model * np.count_nonzero(by_layer) + by_layer.max())
        return int(by_layer.sum())


def _places(layer: Layer) -> tuple[tuple[str, ...], ...]:
    """Paths below a layer of the Linears in each of its `PLACES`."""
    attention, mlp = layer.attention, layer.mlp
    return (
        attention.rows if attention else (),
        (attention.out,) if attention else (),
        mlp.rows if mlp else (),
        (mlp.down,) if mlp else (),
    )


def shape_of(model: nn.Module, layer: Layer) -> tuple[int, int, int, int]:
    """Sizes of a layer: width of its queries, width of its keys, projections into its neurons, and neurons."""
    width = keys = gates = n = 0
    if layer.attention:
        heads = Heads.of(model, layer)
        width, keys = heads.n * heads.width, heads.groups * heads.width
    if layer.mlp:
        neurons = Neurons.of(model, layer)
        gates, n = len(neurons.rows), neurons.n
    return width, keys, gates, n


def _others(model: nn.Module, layer: Layer, known: set[str]) -> float:
    """Weights that a token is multiplied with in a layer besides those that masks can touch: other Linears, and of
    fused experts, [experts, ...], as many as a token is sent to.
    """
    text, found = model.config.get_text_config(), 0.0
    chosen = getattr(text, "num_experts_per_tok", None) or getattr(text, "top_k", None) or 1
    for name, module in model.get_submodule(layer.path).named_modules():
        for own, weight in module.named_parameters(recurse=False):
            size = getattr(weight, "ds_numel", weight.numel())
            shape = getattr(weight, "ds_shape", weight.shape)
            if isinstance(module, nn.Linear | Conv1D) and own == "weight" and f"{layer.path}.{name}" not in known:
                found += size
            elif len(shape) == 3 and "expert" in name:
                found += size * min(1.0, chosen / shape[0])
    return found


def _from(values: np.ndarray) -> np.ndarray:
    """Sums of each value and all after it."""
    return np.cumsum(values[::-1])[::-1]
