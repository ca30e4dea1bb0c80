"""The picture in the README: what each mask of the recorded demo learned, against what it kept.

python -m eval.demo_picture
"""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pyarrow.parquet as parquet

DEMO = Path(__file__).parent / "results" / "compare" / "demo"
LABELS = {
    "full": ("no mask: every component", -8, 6, "right"),
    "random": ("random mask", -4, 8, "left"),
    "static": ("static and reactive masks", 8, 1, "left"),
    "reactive": ("", 0, 0, "left"),
    "foresight": ("foresight: the forecast mask", 8, -7, "left"),
    "oracle": ("mask of hindsight", 8, -3, "left"),
    "prior": ("prior: layer and kind alone", 8, -3, "left"),
}
"""Of an arm: its label, the label's place beside the point (typographical points), and the side it begins at."""


def main() -> None:
    """Write learned.svg beside the demo's results; points are means over tasks, seeds and draws of the scored runs."""
    matplotlib.use("svg")
    from matplotlib import pyplot

    runs = [row for row in parquet.read_table(DEMO / "runs.parquet").to_pylist() if row["stage"] == "score"]
    figure, axis = pyplot.subplots(figsize=(6.4, 3.6), layout="constrained")
    for arm, (label, right, up, side) in LABELS.items():
        mine = [row for row in runs if row["arm"] == arm]
        x, y = (100 * float(np.mean([row[name] for row in mine])) for name in ("target_accuracy", "retained_accuracy"))
        axis.scatter(x, y, color="#c44536" if arm == "foresight" else "#3a6ea5")
        axis.annotate(label, (x, y), (right, up), textcoords="offset points", fontsize=8, ha=side)
    axis.set(xlabel="accuracy on the task that was trained, %", ylabel="accuracy on tasks to keep, %")
    axis.set(xlim=(48, 84), ylim=(46, 94))
    axis.grid(alpha=0.3)
    figure.savefig(DEMO / "learned.svg", metadata={"Date": None})
    print(f"written: {DEMO / 'learned.svg'}")


if __name__ == "__main__":
    main()
