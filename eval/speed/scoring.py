"""A scoring pass of every registered scorer, next to a plain forward and backward pass over as many tokens."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn

from foresight.model.components import ComponentTable, component_table
from foresight.scoring import SCORERS, make_scorer
from foresight.scoring.gradient_taps import stored_weight_of
from foresight.scoring.probes import IGNORED, Batch, ContrastProbe, Probe, TextProbe

from .arms import Place

SLOW = ("exact",)
"""Scorers that run the model once a component: left out, as no run takes them at a cadence."""
PLAIN = "forward and backward"


def contrast(place: Place) -> ContrastProbe:
    """One batch of pairs of random prompts that differ in their first token; the answer follows the last."""
    ids = place.shape.batch(place.device)
    targets = torch.full_like(ids, IGNORED)
    targets[:, -1] = 5
    corrupted = ids.clone()
    corrupted[:, 0] = ids[:, 0] % 7 + 3
    wrong = torch.full((len(ids),), 6, device=ids.device)
    return ContrastProbe([Batch(ids, torch.ones_like(ids), targets, corrupted, wrong)])


def text(place: Place) -> TextProbe:
    """One batch of random text in which every token is predicted."""
    ids = place.shape.batch(place.device)
    targets = ids.roll(-1, 1)
    targets[:, -1] = IGNORED
    return TextProbe([Batch(ids, torch.ones_like(ids), targets)])


def passes(place: Place, names: tuple[str, ...]) -> dict[str, Callable[[], Any]]:
    """Name -> one scoring of a frozen model, as a run has it, and under `PLAIN` what that is compared with: forward and
    backward of a model that is trained, all weight gradients, no optimizer.
    """
    trained, model = place.model(), place.model().requires_grad_(False)
    table, rows = component_table(model), place.shape.batch(place.device)
    pairs, plain_text = contrast(place), text(place)

    def plain() -> None:
        trained(input_ids=rows, labels=rows).loss.backward()
        trained.zero_grad()

    works: dict[str, Callable[[], Any]] = {PLAIN: plain}
    for name in names:
        scorer = make_scorer(name, **_needed(name, model, table))
        works[name] = _scoring(scorer, model, table, pairs if scorer.needs_pairs else plain_text)
    return works


def _scoring(scorer: Any, model: nn.Module, table: ComponentTable, probe: Probe) -> Callable[[], Any]:
    return lambda: scorer.score(model, table, probe)


def _needed(name: str, model: nn.Module, table: ComponentTable) -> dict[str, Any]:
    if name != "movement":
        return {}
    read = stored_weight_of(model)
    return {"reference": {target.module: read(target.module).clone() for target in table.targets}}


FAST = tuple(name for name in SCORERS if name not in SLOW)
VARIANTS = ("attribution_abs", "gradient_local", "weight_gradient")
"""Left out of a quick measurement: another scorer runs the model in the same way."""
