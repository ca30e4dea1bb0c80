"""The report of `foresight compare`: the verdict in words, then the numbers, then how it was done."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..common.errors import TrajectoryError
from ..common.intervals import Interval
from ..common.numbers import DASH, number
from ..common.plugins import names_of_files
from ..studies.compare.arms import Arm
from ..studies.compare.contrasts import Contrast
from ..studies.compare.measures import FORGETTING, MEASURES, Measure, grouped
from ..studies.compare.part import MARGIN, Part
from ..studies.compare.results import Record
from ..studies.compare.settings import CompareConfig
from ..studies.compare.study import read_comparisons
from ..studies.compare.summary import BudgetSummary, Summary
from ..studies.runner import RUNS
from ..trajectory.trajectory import Trajectory
from . import comparison_figures as plots
from .comparison_figures import Picture
from .page import REPORT, fill, listed, write_page
from .style import data_uri, looks

PICTURES = 4
"""Tasks whose circuits are drawn, at most."""

HOW = {"failed": "failed", "diverged": "diverged", "idle": "did nothing"}


def write_report(folders: Sequence[str | Path], out: str | Path | None = None) -> Path:
    """Write report.html for finished comparisons from their records; return its path.

    Args:
        folders: written by `foresight compare`; several with equal settings are reported as one.
        out: folder for the page; by default the first of `folders`.

    Raises:
        DataError: a folder has no finished comparison, or one with other settings; the message names them.
    """
    places = [Path(folder) for folder in folders]
    with names_of_files():
        config, summary, records, environment = read_comparisons(places)
        shown = pictures(Part(records, config, config.budgets[0]), [place / RUNS for place in places])
        return write_page(Path(out or places[0]) / REPORT, render(config, summary, records, environment, shown))


def pictures(part: Part, runs: Sequence[Path]) -> list[Picture]:
    """Show a full run of each of the first tasks, and what the primary arm trained and forecast on it.

    Full runs without a recorded trajectory are left out.

    Args:
        runs: where to look for the folders of runs.
    """
    arm = part.config.primary_arm
    primary = {r.cell.unit: r.measures for r in part.whole[arm] if r.cell.draw == 0}
    found: dict[str, Picture] = {}
    for record in part.whole["full"]:
        if record.cell.task in found or not record.measures or len(found) == PICTURES:
            continue
        place = next((place for place in runs if (place / record.key).exists()), Path())
        try:
            trajectory = Trajectory.read(place / record.key / "run" / "trajectory")
        except TrajectoryError:
            continue  # it was deleted after the run
        other = primary.get(record.cell.unit)
        series = trajectory.series(trajectory.scorers[0])
        forecast = other.forecast if other else None
        found[record.cell.task] = Picture(
            task=record.cell.task,
            seed=record.cell.seed,
            series=series,
            schedule=other.schedule if other else (),
            realised=record.measures.realised or (),
            forecast=forecast if forecast and len(forecast.scores) == len(series) else None,
            arm=part.arms[arm].label,
        )
    return list(found.values())


def render(
    config: CompareConfig,
    summary: Summary,
    records: Sequence[Record],
    environment: Mapping[str, str],
    circuits: Sequence[Picture] = (),
) -> str:
    """Return the page as text. All values are escaped."""
    arms, first = config.chosen, summary.budgets[0]
    filters: dict[str, Callable[..., str]] = {
        "mebibytes": lambda value: DASH if value is None else f"{value / 2**20:.1f}",
        "listed": lambda names: ", ".join(arms[name].label for name in names),
        "interval": _interval, "percent": _percent, "p": _p,
    }  # fmt: skip
    return fill(
        "report.html.j2",
        filters,
        config=config,
        settings=listed(asdict(config)),
        summary=summary,
        first=first,
        arms=arms,
        looks=looks(arms),
        measure=config.measure,
        measures=list(MEASURES.values()),
        forgetting=FORGETTING,
        figures=_figures(Part(records, config, first.budget), first, circuits),
        groups={part.budget: _groups(part, config.primary_arm, arms) for part in summary.budgets},
        lost=grouped(((arms[run.arm].label, HOW[run.how]), run) for run in summary.broken),
        before=_before(config, summary),
        environment=environment,
        margin=MARGIN,
        how=HOW,
        scored=sum(r.cell.stage == "score" for r in records),
        runs=len(records),
        skills=_skills(records, config.primary_arm),
        primary=arms[config.primary_arm].label,
        retained=bool(summary.retained),
    )


def _figures(part: Part, first: BudgetSummary, circuits: Sequence[Picture]) -> dict[str, Any]:
    figures: dict[str, Any] = {"heatmaps": [(picture.task, data_uri(plots.heatmap(picture))) for picture in circuits]}
    if any(part.whole.values()):
        figures["outcomes"] = data_uri(plots.outcomes(part, first))
        figures["curves"] = data_uri(plots.learning_curves(part))
        figures["pale"] = any(part.whole[name] for name, style in plots.strokes(part).items() if style is plots.PALE)
    if drawn := plots.frontiers(part):
        figures["frontiers"] = data_uri(drawn)
    if circuits:
        vectors = dict(zip(circuits[0].series.name.tolist(), circuits[0].series.vectors.tolist(), strict=True))
        chance = next((a.chance for name, a in first.arms.items() if name != "full" and a.chance is not None), None)
        figures["overlap"] = data_uri(plots.overlap_over_time(part, vectors, chance))
    if forecast := [picture for picture in circuits if picture.forecast and picture.schedule]:
        figures["forecasts"] = data_uri(plots.predicted_against_realised(forecast))
    return figures


def _groups(part: BudgetSummary, primary: str, arms: Mapping[str, Arm]) -> dict[str, dict[tuple[str, str], Any]]:
    """Map title -> (a, b) -> measure -> contrast, with those of the primary arm first, then by the arm b."""
    found: dict[str, dict[tuple[str, str], dict[str, Contrast]]] = {}
    for contrast in sorted(part.contrasts, key=lambda contrast: primary not in (contrast.a, contrast.b)):
        pair = contrast.a, contrast.b
        title = f"{arms[primary].label} and the others" if primary in pair else f"Against {arms[contrast.b].label}"
        found.setdefault(title, {}).setdefault(pair, {})[contrast.measure] = contrast
    return found


def _before(config: CompareConfig, summary: Summary) -> dict[str, float]:
    """Return measures of the models before training, where they are known."""
    found = {}
    for key, values in summary.base.items():
        for kind, tasks in (("target", config.target_tasks), ("retained", summary.retained)):
            if known := [values[task] for task in tasks if task in values]:
                found[f"{kind}_{key}"] = sum(known) / len(known)
    return found


def _skills(records: Sequence[Record], primary: str) -> dict[str, float]:
    """Average what the primary arm's runs logged about their forecasts."""
    notes = [r.measures.notes for r in records if r.cell.stage == "score" and r.cell.arm == primary and r.measures]
    names = {"foresight/skill", "foresight/forecast_overlap", "foresight/persistence_overlap"}
    shared = names.intersection(*notes) if notes else set()
    return {name.split("/")[1]: sum(n[name] for n in notes) / len(notes) for name in sorted(shared)}


def _interval(value: Interval, measure: Measure) -> str:
    """Format an interval in the unit of the measure, as in ``[70.0, 92.4]``; empty if there is none."""
    if value.low is None or value.high is None:
        return ""
    low, high = (number(measure.scale * bound, f".{measure.digits}f") for bound in (value.low, value.high))
    return f"[{low}, {high}]"


def _percent(value: float | None, digits: int = 1) -> str:
    return DASH if value is None else f"{100 * value:.{digits}f} %"


def _p(value: float | None) -> str:
    return DASH if value is None else "< 0.001" if value < 0.001 else f"{value:.3f}"
