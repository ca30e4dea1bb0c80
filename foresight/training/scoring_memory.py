"""What scoring needs of memory besides the model: passes over a batch of the probe, and copies of weights.

Our own count for frozen weights, per token and layer, with attention width H (queries), K (keys) and F neurons.
Autograd keeps the residual stream in fp32 at both norms, queries, keys, values and the output of attention, and 2 F for
each of gate and up: what their product is made of, and it. Taps of activations add K for the keys of KV groups, those
of weights the outputs of both norms. Checkpointing keeps d_model, and all of one layer at a time. The rest of a phase
is what is computed with on top: the chunk of logits, or a layer's gradients and one example's fp32 products at a tap.
Checked by fake tensors and on a real model (`eval/scoring/memory.py`). Attention that keeps its scores (Gemma 2) and an
activation function of several operations (GPT-2) are not counted: up to 1.8 times as much was measured there.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import nn

from ..masks.costs import shape_of
from ..masks.weight_selection import at_once
from ..model.architectures import layers_of
from ..model.components import features
from ..policies.catalogue import make_policy
from ..policies.granularity import granularity
from ..scoring import SCORERS
from ..scoring.attribution import IntegratedGradients
from ..scoring.exact import TOKENS_HELD, TOKENS_PER_RUN
from ..scoring.goodness import CHUNK
from ..scoring.scorer import BENEFIT
from ..scoring.taps import AT_ONCE
from .config import ForesightConfig, target_of
from .run import scorer_name
from .scoring_budget import corrects

FP32 = 4
PER_LOGIT = 12
"""Bytes while a chunk's loss is differentiated: log probabilities, and two gradients."""


@dataclass(frozen=True)
class ScoringSizes:
    """Bytes that scoring takes: of phases on the device, by name; on the host, of what it keeps between snapshots
    (`reference`) and of what it adds up during one, by all processes together (`sums`).
    """

    phases: dict[str, int]
    reference: int = 0
    sums: int = 0


def scoring_sizes(model: nn.Module, args: ForesightConfig, pairs: bool, rows: int, length: int) -> ScoringSizes:
    """What the scoring of a run takes with batches of `rows` x `length` tokens; nothing if it takes no scores.

    Args:
        pairs: whether there are contrast pairs.
    """
    grain, target = granularity(args.granularity), target_of(args)
    policy = make_policy(args.policy, args.granularity, args.policy_params)
    shape = _Shape(model, args, rows, length)
    if grain.name == "weights":
        needed = getattr(policy, "needs_probe", False)
        sums = FP32 * min(at_once(), shape.targets)
        return ScoringSizes({"scoring": shape.of_weights()}, sums=sums) if needed else ScoringSizes({})
    if not (policy.needs_scores or args.record or policy.scouts):
        return ScoringSizes({})
    name = scorer_name(grain, target, args, pairs)
    if name == "movement":
        return ScoringSizes({}, reference=FP32 * shape.targets)
    if name == BENEFIT or SCORERS[name].module == "gradient":
        summed = name in (BENEFIT, "gradient", "weight_gradient")
        return ScoringSizes({"scoring": shape.of_weights()}, sums=FP32 * shape.targets * summed)
    phases = {"scoring": shape.patching() if name == "exact" else shape.of_activations(name)}
    if corrects(args, name):
        phases["calibration"] = shape.patching()
    return ScoringSizes(phases)


class _Shape:
    """The sizes of a model, and of a pass of `rows` x `length` tokens through it."""

    def __init__(self, model: nn.Module, args: ForesightConfig, rows: int, length: int):
        layers = layers_of(model)
        width, keys, self.gates, self.neurons = np.max([shape_of(model, layer) for layer in layers], 0).tolist()
        text = model.config.get_text_config()
        self.d, self.layers, self.vocabulary = text.hidden_size, len(layers), text.vocab_size
        self.keys = keys * (keys < width)
        self.tapped = width + self.neurons + 2 * self.keys
        self.core = 2 * width + 2 * keys + 2 * self.gates * self.neurons
        linears = (model.get_submodule(f"{layer.path}.{path}") for layer in layers for path in layer.targets())
        self.targets = sum(math.prod(features(linear)) for linear in linears)
        self.rows, self.length = rows, length
        self.element = min(next(model.parameters()).element_size(), 2 if args.bf16 else FP32)
        self.checkpointing = args.gradient_checkpointing

    def of_activations(self, scorer: str) -> int:
        """Bytes for a scorer that taps activations."""
        rows, labels, held, factors = self.rows, self.rows * self.length, 0, 1 if self.element == FP32 else 3
        if scorer.startswith("attribution"):
            labels = rows  # a pair has one
            if scorer == "attribution_ig":
                points = IntegratedGradients().points
                rows = labels = points * max(1, rows // points)
            else:
                rows, factors = self._held_rows(), max(2, factors)
                held = self.element * rows * self.length * self.layers * self.tapped
        at_once = min(rows, max(1, AT_ONCE // (self.length * self.neurons)))
        products = FP32 * factors * at_once * self.length * self.neurons
        gradients = self.element * rows * self.length * (self.neurons + 2 * self.d)
        return held + self._passes(rows, labels, self.core + self.keys, products + gradients)

    def of_weights(self) -> int:
        """Bytes for a scorer that takes the gradients of weights."""
        tokens, matrix = self.rows * self.length, 2 * FP32 * self.d * self.neurons
        gradients = self.element * tokens * (2 * self.neurons + 2 * self.d)
        copies = FP32 * tokens * (self.neurons + self.d) if self.element < FP32 else 0
        return self._passes(self.rows, tokens, self.core + 2 * self.d, max(gradients, copies) + matrix)

    def patching(self) -> int:
        """Bytes for exact patching, one forward pass after the other, as corrections take it too."""
        rows = self._held_rows()
        copies = max(1, TOKENS_PER_RUN // (rows * self.length)) * rows
        inner = self.element * copies * self.length * (4 * self.d + 3 * self.neurons)
        held = self.element * rows * self.length * self.layers * self.tapped
        return held + max(inner, self._head(copies))

    def _passes(self, rows: int, labels: int, layer: int, inside: int) -> int:
        """Bytes for a forward and a backward pass in which a layer keeps `layer` elements per token."""
        tokens, layer = rows * self.length, layer * self.element + 2 * FP32 * self.d
        if not self.checkpointing:
            return tokens * layer * self.layers + max(self._head(labels), inside)
        kept = tokens * self.element * self.d * self.layers
        return kept + max(self._head(labels), tokens * layer + inside)

    def _head(self, labels: int) -> int:
        """Bytes for the loss: its chunk of logits, and all hidden states with their gradient."""
        logits = labels * self.vocabulary
        return PER_LOGIT * logits // math.ceil(logits / CHUNK) + 3 * self.element * labels * self.d

    def _held_rows(self) -> int:
        return min(self.rows, max(1, TOKENS_HELD // self.length))
