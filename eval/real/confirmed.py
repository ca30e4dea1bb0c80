"""What the confirming runs say: each entry of confirm.yaml over all tasks, and the comparisons that were set before.

    python -m eval.real.confirmed

Writes confirmed.md and confirmed.svg beside the ledger.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from foresight.common.files import write_whole
from foresight.common.intervals import Interval, Unit, detectable, paired_difference
from foresight.studies.compare.baseline import against_best, gains

from .arms import ARMS
from .confirm import Confirmation, read
from .ledger import LEDGER
from .report import COLUMNS, Run, records, row, table
from .run import Measures, identity

Runs = dict[str, dict[Unit, Run]]
"""Entry -> (task, seed) -> run."""


def found_runs(plan: Confirmation, runs: list[Run]) -> Runs:
    """The finished runs of each entry."""
    known = {identity(run.cell): run for run in runs}
    found: Runs = {name: {} for name in plan.entries}
    for name, cell in plan.cells():
        if (run := known.get(identity(cell))) is not None:
            found[name][cell.task, cell.seed] = run
    return found


def learned(measures: Measures) -> float:
    """-log(held-out loss + .01) at the end; higher is better."""
    return -math.log(measures.curve[-1][1] + 0.01)


def kept(measures: Measures) -> float:
    """-log of the KL from the base on general text; higher is better."""
    return -math.log(measures.kept["kl_text"])


def page(plan: Confirmation, runs: Runs) -> str:
    """The report as Markdown."""
    wanted = {name: sum(1 for other, _ in plan.cells() if other == name) for name in plan.entries}
    made = {name: len(of) for name, of in runs.items()}
    rows = [
        [name, *row(name, plan.entries[name].rate, list(of.values())).cells(), f"{made[name]} of {wanted[name]}"]
        for name, of in runs.items()
        if of
    ]
    state = (
        f"{sum(made.values())} of {sum(wanted.values())} runs on {len(plan.tasks)} tasks with {len(plan.seeds)} seeds."
    )
    listed = [
        [
            name,
            ARMS[one.arm].about,
            f"{one.rate:g}",
            str(one.steps),
            f"{one.budget:.2%}",
            one.earlier * ARMS[one.arm].earlier,
        ]
        for name, one in plan.entries.items()
    ]
    parts = [
        f"# Confirming runs\n\n{state} Arms, rates and comparisons are those of "
        "[confirm.yaml](../../real/confirm.yaml), committed before the first run.\n",
        *(comparison(name, plan, runs) for name in plan.contrasts),
        f"## Means over tasks\n\n{table(('entry', *COLUMNS, 'runs'), rows)}",
        f"## Log loss at the end by task\n\n{table(('entry', *plan.tasks), by_task(plan, runs))}",
        f"## Entries\n\n{table(('entry', 'what it is', 'rate', 'steps', 'budget', 'earlier runs'), listed)}",
    ]
    return "\n".join(parts)


def comparison(name: str, plan: Confirmation, runs: Runs) -> str:
    """One comparison: what was learned against the best of the others, and against each of them learned and kept."""
    contrast = plan.contrasts[name]
    values = {what: {n: _values(runs[n], measure) for n in (contrast.arm, *contrast.against)}
              for what, measure in MEASURES.items()}  # fmt: skip
    mine, others = values["learned"][contrast.arm], {n: values["learned"][n] for n in contrast.against}
    found = against_best(mine, others)
    if found is None:
        return f"## {name}\n\nNo task has all of its arms yet.\n"
    power = detectable(list(gains(mine, others).values()))
    rows = [
        [
            f"{contrast.arm} minus {other}",
            *(_said(paired_difference(of[contrast.arm], of[other])) for of in values.values()),
        ]
        for other in contrast.against
    ]
    p = "none" if found.p is None else f"{found.p:.3f}"
    least = "nothing yet" if power is None else f"{power:.2f}"
    return (
        f"## {name}\n\n{contrast.arm} minus the best of {', '.join(contrast.against)}, in log loss at the end: "
        f"**{_said(found.nested)}** (p {p}; with 80 % power it sees {least}). Best on all tasks: {found.best}, against "
        f"which it is {_said(found.hindsight)}.\n\n{table(('', *MEASURES), rows)}"
    )


def by_task(plan: Confirmation, runs: Runs) -> list[list[str]]:
    """Of every entry the mean log loss at the end on each task."""
    rows = []
    for name, of in runs.items():
        losses = [
            [-value for (task, _), value in _values(of, learned).items() if task == wanted] for wanted in plan.tasks
        ]
        rows.append([name, *(f"{sum(found) / len(found):.2f}" if found else "" for found in losses)])
    return rows


def draw(runs: Runs, path: Any) -> None:
    """Loss at the end against KL from the base, geometric means over tasks, one point per entry."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(7, 4.5), layout="constrained")
    for name, of in runs.items():
        if learned_by_unit := _values(of, learned):
            x, y = (math.exp(-_mean(values)) for values in (_values(of, kept), learned_by_unit))
            axes.plot(x, y, "o")
            axes.annotate(name, (x, y), xytext=(4, 4), textcoords="offset points", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="forgotten: KL from the base on general text", ylabel="held-out loss")
    figure.savefig(path)
    pyplot.close(figure)


MEASURES = {"learned": learned, "kept": kept, "kept of its own text": lambda m: -math.log(m.kept["kl_own"])}
"""In logarithms, so that a difference of .1 is a tenth; higher is better."""


def _values(of: dict[Unit, Run], measure: Callable[[Measures], float]) -> dict[Unit, float]:
    return {unit: measure(run.measures) for unit, run in of.items() if run.measures is not None}


def _mean(values: dict[Unit, float]) -> float:
    return sum(values.values()) / len(values)


def _said(interval: Interval) -> str:
    if interval.mean is None:
        return ""
    reach = "" if interval.low is None else f" [{interval.low:+.2f}, {interval.high:+.2f}]"
    return f"{interval.mean:+.2f}{reach}"


def main() -> None:
    plan = read()
    runs = found_runs(plan, records())
    write_whole(LEDGER.with_name("confirmed.md"), lambda temporary: temporary.write_text(page(plan, runs)))
    draw(runs, LEDGER.with_name("confirmed.svg"))
    print(page(plan, runs))


if __name__ == "__main__":
    main()
