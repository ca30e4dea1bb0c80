"""What the ledger of the proving ground says: every arm at every rate that was tried, and its best beside the others.

    python -m eval.real.report

Writes screen.md and learned.svg beside the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np

from foresight.common.files import write_whole
from foresight.studies.ledger import Record, record_of

from .arms import ARMS, BUDGET
from .ledger import LEDGER, read
from .plan import TUNING, area
from .run import Cell, Measures

Run = Record[Cell, Measures]

COLUMNS = ("rate", "area", "loss", "exact", "KL text", "KL own", "facts", "CPU s", "before", "trained")
AFTER = ("loss", "accuracy", "kl_text", "kl_own", "facts")
"""Of a run that was mixed with the base or trimmed."""


@dataclass(frozen=True)
class Row:
    """What an arm comes to at a rate, averaged over tasks; a run that diverged makes all of it NaN.

    Attributes:
        area: mean log held-out loss over the curve; loss, exact: at the end.
        kl_text, kl_own, facts: see `Kept.measure`.
        seconds: CPU seconds of the run; before: of the earlier run that it needs.
        edge: whether this best rate is the smallest or largest that was tried.
    """

    arm: str
    rate: float
    area: float
    loss: float
    exact: float
    kl_text: float
    kl_own: float
    facts: float
    seconds: float
    before: float
    trained: float
    edge: bool = False

    def cells(self) -> list[str]:
        rate = f"{self.rate:g}" + (" (edge)" if self.edge else "")
        numbers = (self.area, self.loss, self.exact, self.kl_text, self.kl_own, self.facts)
        rest = (self.seconds, self.before)
        return [rate, *(f"{x:.2f}" for x in numbers), *(f"{x:.0f}" for x in rest), f"{self.trained / 1e6:.2f} M"]


def records() -> list[Run]:
    """The runs of the ledger."""
    return [record_of(data, Cell, Measures) for data in read()]


def row(arm: str, rate: float, runs: list[Run]) -> Row:
    """An arm at a rate, over its runs."""
    if any(run.measures is None for run in runs):
        return Row(arm, rate, *[math.nan] * 9)
    known: list[Measures] = [run.measures for run in runs if run.measures is not None]
    ends = [m.curve[-1] for m in known]
    return Row(
        arm,
        rate,
        _mean(area(m) for m in known),
        _mean(loss for _, loss, _ in ends),
        _mean(exact for _, _, exact in ends),
        *(_mean(m.kept[name] for m in known) for name in ("kl_text", "kl_own", "facts")),
        _mean(m.cpu_seconds for m in known),
        _mean(m.earlier_seconds for m in known),
        _mean(m.trained for m in known),
    )


def tuned(runs: list[Run], tasks: tuple[str, ...] = TUNING) -> dict[str, list[Row]]:
    """Arm (with its budget, where that is not the usual one) -> its rates, the best first, over runs of all the tasks.

    Arms without a rate on every task are left out.
    """
    found: dict[str, list[Row]] = {}
    screened = [run for run in runs if run.cell.task in tasks and not run.cell.more and run.cell.seed == 0]
    for arm, budget in product(ARMS, sorted({run.cell.budget for run in screened}, key=lambda b: (b != BUDGET, b))):
        mine = [run for run in screened if run.cell.arm == arm and run.cell.budget == budget]
        name = arm if budget == BUDGET else f"{arm}, {budget:.3%}"
        rates = sorted({run.cell.rate for run in mine})
        of = {rate: [run for run in mine if run.cell.rate == rate] for rate in rates}
        rows = [row(name, rate, of[rate]) for rate in rates if {run.cell.task for run in of[rate]} == set(tasks)]
        if rows:
            rows.sort(key=lambda one: (math.isnan(one.area), one.area))
            best = rows[0]
            edge = len(rows) < 2 or best.rate in (min(r.rate for r in rows), max(r.rate for r in rows))
            found[name] = [Row(**{**vars(best), "edge": edge}), *rows[1:]]
    return found


def after(runs: list[Run], best: dict[str, list[Row]], tasks: tuple[str, ...] = TUNING) -> list[list[str]]:
    """Full runs at their best rate, mixed with the base or trimmed to the budget."""
    rows = []
    for arm, listed in best.items():
        mine = [
            r.measures for r in runs if r.cell.arm == arm and r.cell.rate == listed[0].rate and r.cell.task in tasks
        ]
        names = dict.fromkeys(name for m in mine if m is not None for name in m.after)
        for name in names:
            values = [m.after[name] for m in mine if m is not None]
            rows.append([f"{arm}, {name}", *(f"{_mean(value[key] for value in values):.2f}" for key in AFTER)])
    return rows


def table(headings: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A table in Markdown."""
    headings = list(headings)
    lines = [headings, ["---"] * len(headings), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def listing(rows: Iterable[Row]) -> str:
    """Rows as a table."""
    return table(("arm", *COLUMNS), ([one.arm, *one.cells()] for one in rows))


def page(runs: list[Run]) -> str:
    """The report of the screen."""
    best = tuned(runs)
    order = sorted(best, key=lambda arm: best[arm][0].area)
    return (
        f"# Screen on {' and '.join(TUNING)}\n\n{len(runs)} runs. Means over the two tasks, one seed, so without "
        "intervals; rates are chosen here, and nothing is claimed from it.\n\n"
        f"## Each arm at its best rate, the best first\n\n{listing(best[arm][0] for arm in order)}\n"
        f"## Full runs mixed with the base or trimmed\n\n"
        f"{table(('arm', 'loss', 'exact', 'KL text', 'KL own', 'facts'), after(runs, best))}\n"
        f"## Every rate\n\n{listing(one for arm in order for one in sorted(best[arm], key=lambda one: one.rate))}\n"
        f"## Arms\n\n{table(('arm', 'what it is'), ([arm, ARMS[arm.partition(',')[0]].about] for arm in order))}"
    )


def draw(runs: list[Run], path: Any) -> None:
    """Loss against KL on general text, every arm a line over its rates; dashed from the weights of an earlier run."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(9, 5), layout="constrained")
    colours = pyplot.get_cmap("tab20")
    for place, (arm, rows) in enumerate(tuned(runs).items()):
        known = sorted((one for one in rows if not math.isnan(one.area)), key=lambda one: one.rate)
        line = "--" if ARMS[arm.partition(",")[0]].onward else "-"
        colour = colours(2 * place % colours.N + 2 * place // colours.N)
        axes.plot([one.kl_text for one in known], [one.loss for one in known], line, color=colour, marker="o",
                  markersize=3, label=arm)  # fmt: skip
    axes.set(xscale="log", yscale="log", xlabel="forgotten: KL from the base on general text", ylabel="held-out loss")
    figure.legend(loc="outside right center", fontsize=8)
    figure.savefig(path)
    pyplot.close(figure)


def _mean(values: Iterable[float]) -> float:
    return float(np.mean(list(values)))


def main() -> None:
    runs = [run for run in records() if run.cell.task in TUNING]
    write_whole(LEDGER.with_name("screen.md"), lambda temporary: temporary.write_text(page(runs)))
    draw(runs, LEDGER.with_name("learned.svg"))
    print(page(runs))


if __name__ == "__main__":
    main()
