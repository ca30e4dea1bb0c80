"""Edge attribution patching: the effect of cutting one edge of the residual stream, to first order.

Syed et al., arXiv 2310.10348 (EAP), and with integrated gradients over the input embeddings Hanna et al., arXiv
2403.17806 (EAP-IG, inputs variant). An edge runs from what a source (the input embeddings, a head, an MLP) adds to the
residual stream to what one destination (query, key or value of a head or KV group, an MLP, the logits) reads of it:

    score = (clean - corrupted output of the source) . (gradient of the metric at the destination's residual input)

summed over positions and d_model: the drop of the logit difference if the corrupted output replaced the clean one for
that destination alone. Positive means that the edge supports the behaviour. EAP-IG's code computes corrupted - clean
and takes a loss; the two signs cancel, so its score with the negative metric is ours.

Everything comes from plain hooks. For a head's query (key, value), the gradient at those outputs of the projection is
multiplied by their weight rows and carried back through the norm at its recorded input. The result is the gradient with
respect to the residual stream as this destination alone reads it. Over all destinations after a source these gradients
add up to the gradient at the source's output, so with one point a source's edges add up to its score by `Attribution`.
(`attribution_ig` uses other points and weights than EAP-IG, so with more points the sums are close to its scores, not
equal.)

A norm between a source and the stream (Gemma) makes the source's contribution nonlinear in its output. The norm is
replaced by its derivative at the point of the gradient, so that the score remains the derivative along this edge.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..common.errors import ConfigError, DataError, NonFiniteError
from .edge_graph import ROLES, EdgeGraph, Reader, Writer, edge_graph
from .goodness import goodness
from .gradient_taps import WeightOf, Weights, stored_weight_of
from .probes import Batch, Probe
from .scorer import scoring_mode
from .taps import Site, embeddings, record

if TYPE_CHECKING:
    from ..model.components import ComponentTable

Place = tuple[str, str]
"""A module and its side, ``input`` or ``output``."""


@dataclass(frozen=True)
class Edges:
    """The strongest edges of a model, by falling |score|.

    Attributes:
        names: of the nodes, by id; see `EdgeGraph`.
        source, destination: int32 [m], node ids.
        role: str [m], what the destination reads: one of `ROLES`.
        score: float32 [m], in units of the metric, mean over examples.
    """

    names: tuple[str, ...]
    source: np.ndarray
    destination: np.ndarray
    role: np.ndarray
    score: np.ndarray

    def __len__(self) -> int:
        return len(self.score)

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """(source, destination) names of every edge."""
        return [(self.names[a], self.names[b]) for a, b in zip(self.source, self.destination, strict=True)]


def edge_scores(
    model: nn.Module,
    table: ComponentTable,
    probe: Probe,
    ig_steps: int = 1,
    top: int = 20_000,
    weights: Weights | None = None,
) -> Edges:
    """Score every edge and keep the `top` ones by |score|.

    The number of edges is quadratic in the number of nodes: about 3/2 (layers x heads)^2, so 32 thousand for 12 layers
    of 12 heads and 1.6 million for 32 of 32. The scores of all edges are held until the end, as float64. Activations
    are held as recorded (for every point) and expanded to [sources, B, T, d_model] for one writer, and to
    [destinations, B, T, d_model] (times points) for one reader at a time. This needs little memory, but time quadratic
    in layers.

    Args:
        ig_steps: points m of the integral, at k/m for k = 1..m on the line from the corrupted to the clean embeddings
            (as in the EAP-IG paper; its code uses k = 0..m-1). 1 is EAP itself, the gradient of the clean run. Each
            point costs one backward pass.
        top: edges to keep, at least 1.
        weights: None reads the stored ones.

    Raises:
        ConfigError: a setting that cannot be used.
        DataError: no probe, or one without contrast pairs.
        NonFiniteError: a score is NaN or infinite; the message names the edge.
    """
    for name, value in (("ig_steps", ig_steps), ("top", top)):
        if value < 1:
            raise ConfigError(f"edge scores: {name} is {value}; expected at least 1")
    if probe is None or not probe.has_pairs:
        raise DataError(
            f"edge scores need contrast pairs, but the probe {'is missing' if probe is None else 'has plain text'}; "
            "give a dataset with columns clean, corrupted, answer, wrong_answer"
        )
    graph = edge_graph(model, table)
    passes = _Passes(model, graph, weights() if weights else stored_weight_of(model))
    totals = [np.zeros((len(graph.sources_of(r)), len(r.destinations))) for r in graph.readers]
    with scoring_mode(model):
        for batch in probe.batches:
            for total, scores in zip(totals, passes.score(batch.to(model.device), ig_steps), strict=True):
                total += scores
    return _strongest(graph, [total / (probe.n_examples * ig_steps) for total in totals], top)


def _strongest(graph: EdgeGraph, scores: list[np.ndarray], top: int) -> Edges:
    """The `top` edges from scores by reader, each [sources, destinations]; ties stay in model order."""
    source, destination, role = list[np.ndarray](), list[np.ndarray](), list[np.ndarray]()
    for reader in graph.readers:
        before, after = graph.sources_of(reader), reader.destinations
        source.append(np.repeat(before, len(after)))
        destination.append(np.tile(np.array([part.node for part in after], np.int32), len(before)))
        role.append(np.tile(np.array([ROLES.index(part.role) for part in after], np.int8), len(before)))
    columns = [np.concatenate(part) for part in (source, destination, role)]
    score = np.concatenate([part.ravel() for part in scores])
    bad = np.flatnonzero(~np.isfinite(score))
    if len(bad):
        a, b, r = (column[bad[0]] for column in columns)
        raise NonFiniteError(
            f"edge scores gave {score[bad[0]]} for {graph.names[a]} -> {graph.names[b]} ({ROLES[r]}; {len(bad)} of "
            f"{len(score)} edges are not finite). The model's loss or activations have probably diverged"
        )
    kept = np.argsort(-np.abs(score), kind="stable")[:top]
    a, b, r = (column[kept] for column in columns)
    return Edges(graph.names, a, b, np.array(ROLES)[r], score[kept].astype(np.float32))


@dataclass
class _Point:
    """A forward and backward pass at one point of the line: activations and gradients by place."""

    activations: dict[Place, Tensor]
    gradients: dict[Place, Tensor]


class _Passes:
    """Forward and backward passes of one model, and the edge scores computed from them."""

    def __init__(self, model: nn.Module, graph: EdgeGraph, weight_of: WeightOf):
        self.model, self.graph, self.weight_of = model, graph, weight_of
        self.written: list[Place] = [(w.module, "input") for w in graph.writers]
        self.stream: Place = (graph.readers[0].norm, "input")  # where the input embeddings enter the stream
        parts = (part for reader in graph.readers for part in reader.destinations)
        self.read: list[Place] = list(dict.fromkeys((part.module, "output") for part in parts))
        norms = [r.norm for r in graph.readers] + [w.post_norm for w in graph.writers if w.post_norm]
        self.normed: list[Place] = [(norm, "input") for norm in norms]

    def score(self, batch: Batch, steps: int) -> list[np.ndarray]:
        """Scores by reader, summed over the examples of a batch and over steps: float64 [sources, destinations]."""
        with torch.no_grad(), embeddings(self.model) as leaves:
            corrupted = self._record(batch, [*self.written, self.stream], corrupted=True)[0]
        clean = self._point(batch, self.written)
        deltas = {at: clean.activations[at].float() - other.detach().float() for at, other in corrupted.items()}
        points = [clean]
        for k in range(1, steps):
            on_the_line = partial(_between, leaves[0], share=k / steps)
            points.append(self._point(batch, [], on_the_line))
        return [self._of_reader(reader, deltas, points).double().cpu().numpy() for reader in self.graph.readers]

    def _record(self, batch: Batch, places: list[Place], corrupted: bool = False) -> tuple[dict[Place, Tensor], Tensor]:
        nobody = torch.zeros(0, dtype=torch.int64)  # whole modules are recorded, so no component owns a feature
        places = list(dict.fromkeys(places))
        run = record(self.model, [Site(module, side, nobody) for module, side in places], batch, corrupted)
        return dict(zip(places, run.activations, strict=True)), run.hidden

    def _point(self, batch: Batch, also: list[Place], change: Callable[[Tensor], Tensor] | None = None) -> _Point:
        """A pass with changed embeddings; keeps the activations at the norms and at the places in `also`."""
        with torch.enable_grad(), embeddings(self.model, change):
            seen, hidden = self._record(batch, [*also, *self.normed, *self.read])
            total = goodness("logit_difference", self.model, hidden, batch).sum()
            gradients = torch.autograd.grad(total, [seen[place] for place in self.read])
        activations = {place: seen[place].detach() for place in (*also, *self.normed)}
        return _Point(activations, dict(zip(self.read, gradients, strict=True)))

    def _of_reader(self, reader: Reader, deltas: dict[Place, Tensor], points: list[_Point]) -> Tensor:
        """Scores of all edges into a reader's destinations, summed over points: float32 [sources, destinations]."""
        gradients = [self._before(reader.norm, self._behind(reader, point), point) for point in points]
        total = torch.stack(gradients).sum(0)
        scores = [deltas[self.stream].flatten()[None] @ total.flatten(1).T]
        for writer in self.graph.writers[: reader.n_writers]:
            at_writer = total
            if writer.post_norm:
                pairs = zip(gradients, points, strict=True)
                at_writer = torch.stack([self._before(writer.post_norm, *pair) for pair in pairs]).sum(0)
            outputs = self._outputs(writer, deltas[writer.module, "input"])
            scores.append(outputs.flatten(1) @ at_writer.flatten(1).T)
        return torch.cat(scores)

    def _behind(self, reader: Reader, here: _Point) -> Tensor:
        """Gradient of each destination at the output of the reader's norm: float32 [destinations, B, T, d_model]."""
        modules = dict.fromkeys(part.module for part in reader.destinations if part.module != reader.norm)
        weights = {module: self.weight_of(module).to(self.model.device) for module in modules}
        found = []
        for part in reader.destinations:
            gradient = here.gradients[part.module, "output"][..., part.start : part.stop].float()
            found.append(gradient @ weights[part.module][part.start : part.stop] if weights else gradient)
        return torch.stack(found)

    def _before(self, norm: str, gradients: Tensor, here: _Point) -> Tensor:
        """Carry gradients [n, B, T, d_model] at a norm's output back to its input: float32, same shape."""
        with torch.enable_grad():
            inputs = here.activations[norm, "input"].expand(gradients.shape).requires_grad_()
            outputs = self.model.get_submodule(norm)(inputs)
            return torch.autograd.grad(outputs, inputs, gradients.to(outputs.dtype))[0].float()

    def _outputs(self, writer: Writer, delta: Tensor) -> Tensor:
        """Clean minus corrupted outputs of a writer's sources, before its norm: float32 [sources, B, T, d_model]."""
        weight = self.weight_of(writer.module).to(delta.device)
        return torch.stack([delta[..., s.start : s.stop] @ weight[:, s.start : s.stop].T for s in writer.sources])


def _between(corrupted: Tensor, clean: Tensor, share: float) -> Tensor:
    """corrupted + share * (clean - corrupted), computed in float32."""
    return torch.lerp(corrupted.float(), clean.float(), share).to(clean.dtype)
