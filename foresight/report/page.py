"""The report: one HTML file that needs nothing else, with the verdict in words before any number."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..comparison.arms import ARMS
from ..comparison.demo import RUNS, DemoConfig, read_demo
from ..comparison.results import Record
from ..comparison.statistics import Interval
from ..comparison.summary import Summary
from ..comparison.tuning import MARGIN
from ..comparison.verdict import LOG_LOSS_AREA, TARGET_ACCURACY, Measure
from ..errors import TrajectoryError
from ..files import write_whole
from ..trajectory import Trajectory
from .circuits import Picture, heatmap, predicted_against_realised
from .figures import learning_curves, outcomes, overlap_over_time
from .style import COLOURS, data_uri

REPORT = "report.html"


def write_report(folder: str | Path) -> Path:
    """Write report.html for the finished demo in `folder`, from its records alone; return its path.

    Raises:
        DataError: the folder holds no finished demo.
    """
    folder = Path(folder)
    config, summary, records, environment = read_demo(folder)
    html = render(config, summary, records, environment, pictures(records, folder / RUNS))
    return write_page(folder / REPORT, html)


def pictures(records: Sequence[Record], runs: Path) -> list[Picture]:
    """For every scored task, its first seed's full run beside the foresight run; none if the full run failed."""
    found: dict[str, Picture] = {}
    scored = [r for r in records if r.cell.stage == "score" and r.measures]
    foresight = {(r.cell.task, r.cell.seed): r.measures for r in scored if r.cell.arm == "foresight"}
    for record in scored:
        if record.cell.arm != "full" or record.cell.task in found or not record.measures:
            continue
        try:
            trajectory = Trajectory.read(runs / record.key / "run" / "trajectory")
        except TrajectoryError:
            continue  # deleted after the run: the report goes without its picture
        other = foresight.get((record.cell.task, record.cell.seed))
        found[record.cell.task] = Picture(
            task=record.cell.task,
            seed=record.cell.seed,
            series=trajectory.series(trajectory.scorers[0]),
            schedule=other.schedule if other else (),
            realised=record.measures.realised or (),
            forecast=other.forecast if other else None,
        )
    return list(found.values())


def render(
    config: DemoConfig,
    summary: Summary,
    records: Sequence[Record],
    environment: dict[str, str],
    circuits: Sequence[Picture],
) -> str:
    """The page as text. Everything that is not a figure is escaped."""
    scored = [r for r in records if r.cell.stage == "score" and r.measures]
    chance = next((arm.chance for name, arm in summary.arms.items() if name != "full" and arm.chance is not None), None)
    figures: dict[str, Any] = {"heatmaps": [(p.task, data_uri(heatmap(p))) for p in circuits]}
    if scored:
        figures["outcomes"] = data_uri(outcomes(summary, records))
        figures["curves"] = data_uri(learning_curves(records))
    if circuits:
        vectors = dict(zip(circuits[0].series.name.tolist(), circuits[0].series.vectors.tolist(), strict=True))
        figures["overlap"] = data_uri(overlap_over_time(records, vectors, chance))
    forecast = [picture for picture in circuits if picture.forecast]
    if forecast:
        figures["forecasts"] = data_uri(predicted_against_realised(forecast))
    filters: dict[str, Callable[..., str]] = {
        "percent": _percent,
        "interval": _interval,
        "difference": _difference,
        "mebibytes": _mebibytes,
    }
    return fill(
        "report.html.j2",
        filters,
        config=config,
        summary=summary,
        arms=ARMS,
        colours=COLOURS,
        figures=figures,
        environment=environment,
        chance=chance,
        margin=MARGIN,
        accuracy=TARGET_ACCURACY,
        area=LOG_LOSS_AREA,
        runs=sum(r.cell.stage == "score" for r in records),
        skills=_skills(records),
        before={key: _before(summary, tasks) for key, tasks in _groups(config, summary).items()},
    )


def fill(template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """A template inside the frame that all pages share, as text; whatever is not a figure is escaped."""
    templates = Environment(
        loader=PackageLoader("foresight.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= filters
    return templates.get_template(template).render(accent=COLOURS["foresight"], **values)


def write_page(path: Path, html: str) -> Path:
    """Put a page in its place, whole or not at all; return its path."""

    def write(temporary: Path) -> None:
        temporary.write_text(html, encoding="utf-8")

    write_whole(path, write)
    return path


def _groups(config: DemoConfig, summary: Summary) -> dict[str, Sequence[str]]:
    return {"target": config.target_tasks, "retained": summary.retained}


def _before(summary: Summary, tasks: Sequence[str]) -> float | None:
    known = [summary.base[task] for task in tasks if task in summary.base]
    return sum(known) / len(known) if known else None


def _skills(records: Sequence[Record]) -> dict[str, float]:
    """Means over the foresight runs of what they logged about their forecasts."""
    notes = [r.measures.notes for r in records if r.cell.stage == "score" and r.cell.arm == "foresight" and r.measures]
    names = {"foresight/skill", "foresight/forecast_overlap", "foresight/persistence_overlap"}
    shared = names.intersection(*notes) if notes else set()
    return {name.split("/")[1]: sum(n[name] for n in notes) / len(notes) for name in sorted(shared)}


def _percent(value: float | None) -> str:
    return "\N{EN DASH}" if value is None else f"{100 * value:.1f}"


def _interval(value: Interval) -> str:
    """``[70.0, 92.4]`` in percent, cut to what a share can be; empty if there is no interval."""
    if value.low is None or value.high is None:
        return ""
    low, high = (100 * min(1.0, max(0.0, bound)) for bound in (value.low, value.high))
    return f"[{low:.1f}, {high:.1f}]"


def _difference(value: Interval, measure: Measure) -> str:
    return measure.difference(value)


def _mebibytes(value: int | None) -> str:
    return "\N{EN DASH}" if value is None else f"{value / 2**20:.1f}"
