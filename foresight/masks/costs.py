"""What a train step costs under a mask: its operations, and the activations that it keeps.

Our own model of both, from shapes alone, for a bank that computes as `foresight.bank.vectors` does. A mask trains some
vectors; the lowest Linear that has one is where the backward pass ends. Below it nothing is differentiated and nothing
kept. From there up every frozen Linear passes gradients on to its inputs, which takes as much as its forward pass, and
none has a weight gradient; each trained vector takes its own products with all positions.
"""

from __future__ import annotations

import numpy as np
from torch import nn

from ..model.architectures import architecture_of
from ..model.components import ComponentTable, features

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
        arch, config = architecture_of(model), model.config.get_text_config()
        self.d_model, self.checkpointing, self.n_components = config.hidden_size, checkpointing, len(table)
        self._weights = table.d_model * table.vectors.astype(np.int64)
        layers = model.get_submodule(arch.layers)
        groups = ((arch.query, arch.key, arch.value), (arch.attention_out,), arch.up, (arch.down,))
        place = {f"{arch.layers}.{layer}.{path}": PLACES * layer + at
                 for layer in range(len(layers)) for at, paths in enumerate(groups) for path in paths}  # fmt: skip
        self._place, self._columns = np.full(len(table), PLACES * len(layers)), np.zeros(len(table), np.int64)
        self._reads = np.full(len(table), -1)
        for target in table.targets:
            owner = table.owner[target.ids]
            np.minimum.at(self._place, owner, place[target.module])
            if target.axis == "column":
                self._columns += np.bincount(owner, minlength=len(table))
            else:
                self._reads[owner] = place[target.module]

        width, neurons = (features(layers[0].get_submodule(path))[1] for path in (arch.attention_out, arch.down))
        keys = width * (getattr(config, "num_key_value_heads", None) or config.num_attention_heads)
        keys //= config.num_attention_heads
        gates, self._inputs = len(arch.up), np.array([self.d_model, width, self.d_model, neurons])
        attention = 2 * self.d_model + 3 * width + 2 * keys
        self._kept = np.tile([attention, 2 * self.d_model + (1 + gates) * neurons], len(layers))

        weights = np.zeros(PLACES * len(layers))
        for target in table.targets:
            weights[place[target.module]] += target.n * table.d_model
        scores = np.zeros_like(weights)
        scores[::PLACES] = width * (length + 1)  # queries with keys and weights with values, each half of the square
        head = float(np.prod(features(model.get_output_embeddings())))
        layer = (weights + scores).reshape(-1, PLACES).sum(1)
        again = np.repeat(_from(layer), PLACES) if checkpointing else np.zeros_like(weights)
        # The lowest Linear itself passes no gradient on; `scores` are at its layer's first place, so count from there.
        inputs = head + _from(weights) + ATTENTION_BACKWARD * _from(scores) + again
        self._backward = inputs - weights
        self.floor = (head + float(layer.sum()), float(inputs[0]))
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
        np.add.at(kept, reads[reads >= 0] // (PLACES // 2), self._inputs[reads[reads >= 0] % PLACES])
        by_layer = kept.reshape(-1, 2).sum(1)
        if self.checkpointing:
            return int(self.d_model * np.count_nonzero(by_layer) + by_layer.max())
        return int(by_layer.sum())


def _from(values: np.ndarray) -> np.ndarray:
    """Sums of each value and all after it."""
    return np.cumsum(values[::-1])[::-1]
