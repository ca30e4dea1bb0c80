"""The report of `foresight evidence`: the findings in words, then effects, side effects and every set of heads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ..common.intervals import Interval
from ..common.numbers import bracketed
from ..common.plugins import names_of_files
from ..studies.evidence.cells import EFFECTS, METHODS
from ..studies.evidence.outcomes import FULL, LOCALIZED, LORA_ARM, RANDOM, Outcome
from ..studies.evidence.settings import EvidenceConfig
from ..studies.evidence.study import read_results
from ..studies.evidence.verdict import Evidence
from .page import REPORT, fill, listed, write_page
from .style import COLOURS, Look, data_uri, looks, panels, shared_legend, styled


def write_evidence(folder: str | Path) -> Path:
    """Write report.html for a finished study from its results; return its path.

    Raises:
        DataError: the folder holds no finished study.
    """
    with names_of_files():
        config, evidence, environment = read_results(folder)
        return write_page(Path(folder) / REPORT, render(config, evidence, environment))


def render(config: EvidenceConfig, evidence: Evidence, environment: Mapping[str, str]) -> str:
    """Return the page as text. All values are escaped."""
    return fill(
        "evidence.html.j2",
        {"number": lambda value: f"{value:.3f}", "interval": _interval, "heads": _heads},
        config=config,
        settings=listed(asdict(config)),
        evidence=evidence,
        methods=METHODS,
        effect=EFFECTS[evidence.effect],
        named={method: [o for o in found if o.kind != RANDOM] for method, found in evidence.outcomes.items()},
        random={method: [o for o in found if o.kind == RANDOM] for method, found in evidence.outcomes.items()},
        figures={"null": data_uri(null_distributions(evidence)), "frontier": data_uri(frontier(evidence))},
        environment=environment,
    )


@styled()
def null_distributions(evidence: Evidence) -> Figure:
    """Histogram of the effect of random sets, one panel per method, with the named sets marked."""
    titles = [METHODS[method] for method in evidence.outcomes]
    fig, axes = panels(titles, 3.4, EFFECTS[evidence.effect], "sets of heads")
    for axis, outcomes in zip(axes, evidence.outcomes.values(), strict=True):
        values = [o.effect for o in outcomes]
        bins = np.linspace(min([*values, evidence.before]), max([*values, evidence.before]) + 1e-9, 21).tolist()
        random = [value for value, o in zip(values, outcomes, strict=True) if o.kind == RANDOM]
        axis.hist(random, bins, color=COLOURS["random"], alpha=0.6, label=f"{len(random)} random sets")
        axis.axvline(evidence.before, color="#999999", linestyle=":", linewidth=1.4, label="before the edit")
        for name, look in _looks(evidence).items():
            for effect in (o.effect for o in outcomes if o.name == name):
                axis.axvline(effect, color=look.colour, linestyle=look.line, linewidth=2, label=name)
    shared_legend(fig, axes, 6)
    return fig


@styled()
def frontier(evidence: Evidence) -> Figure:
    """Effect over side effect of every set at every setting, one panel per method; chosen settings are filled."""
    titles = [METHODS[method] for method in evidence.outcomes]
    fig, axes = panels(titles, 4.0, "KL divergence from the model before (nats)", EFFECTS[evidence.effect])
    for axis, outcomes in zip(axes, evidence.outcomes.values(), strict=True):
        _scatter(axis, [o for o in outcomes if o.kind == RANDOM], Look(COLOURS["random"], "o", "-"), "random sets")
        for name, look in _looks(evidence).items():
            _scatter(axis, [o for o in outcomes if o.name == name], look, name)
        axis.axhline(evidence.before, color="#999999", linestyle=":", linewidth=1.4, label="before the edit")
        axis.set_xscale("symlog", linthresh=0.01)
        axis.set_xlim(left=0)
    shared_legend(fig, axes, 6)
    return fig


def _scatter(axis, outcomes: Sequence[Outcome], look: Look, label: str) -> None:
    if not outcomes:
        return
    size, front = (16, 2) if outcomes[0].kind == RANDOM else (60, 3)
    every = [(max(point.kl, 0.0), point.test) for o in outcomes for point in o.points]
    hollow = {"facecolors": "none", "edgecolors": look.colour, "linewidths": 0.9}
    axis.scatter(*zip(*every, strict=True), s=size, marker=look.marker, **hollow)
    chosen = [(max(o.best.kl, 0.0), o.best.test) for o in outcomes]
    axis.scatter(*zip(*chosen, strict=True), s=size, marker=look.marker, color=look.colour, label=label, zorder=front)


def _looks(evidence: Evidence) -> dict[str, Look]:
    """Return the look of every set that is not random."""
    every = {o.name: o.kind for found in evidence.outcomes.values() for o in found if o.kind != RANDOM}
    made = {FULL: Look(COLOURS["full"], "s", "-"), LORA_ARM: Look(COLOURS["oracle"], "*", "--")}
    localized = looks(name for name, kind in every.items() if kind == LOCALIZED)
    return {name: made.get(kind) or localized[name] for name, kind in every.items()}


def _interval(found: Interval | None) -> str:
    return "" if found is None else bracketed(found.mean, found.low, found.high, "+.3f")


def _heads(heads: Sequence[Sequence[str]]) -> str:
    """List the heads of every seed, or once if all seeds have the same."""
    if any(len(found) > 16 for found in heads):
        return f"{len(heads[0])} heads"
    return "; ".join(dict.fromkeys(", ".join(found) for found in heads))
