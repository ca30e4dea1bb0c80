"""Write the recorded leaderboard into the README of the forecasters, between its two markers.

    python -m eval.leaderboard

Names of forecasters are labels here: a forecaster that was removed since keeps its line.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from foresight.common.files import write_whole
from foresight.forecasters import DEFAULT, REMOVED

ROOT = Path(__file__).parents[1]
README = ROOT / "foresight" / "forecasters" / "README.md"
RESULTS = ROOT / "eval" / "results" / "forecasters"
START, END = "<!-- leaderboard -->\n", "<!-- end -->"
LABELS = {"prior": "layer and kind alone", "twin": "another order of the data", DEFAULT: f"{DEFAULT} (default)"}


def table(by_task: dict[str, Any], by_model: dict[str, Any], from_weights: dict[str, Any]) -> str:
    """A Markdown table of three recorded boards: each task left out, each model left out, forecasts from weights."""
    models = {line["forecaster"]: line for line in (*by_model["standings"], *by_model["yardsticks"])}
    rows = [
        "| forecaster | tasks left out: points of the circuit over persistence | models left out | newcomers found "
        "| precision |",
        "|---|---|---|---|---|",
    ]
    for line in (*by_task["standings"], *by_task["yardsticks"]):
        rows.append(_row(line, _gain(models[line["forecaster"]])))
    own = {line["forecaster"] for line in by_task["standings"]}
    rows += [_row(line, "") for line in from_weights["standings"] if line["forecaster"] not in own]
    return "\n".join(rows) + "\n"


def _row(line: dict[str, Any], models: str) -> str:
    name = line["forecaster"]
    label = LABELS.get(name, f"{name} (removed)" if name in REMOVED else name)
    cells = [label, _gain(line), models, _percent(line["newcomers"]), _percent(line["precision"])]
    return f"| {' | '.join(cells)} |".replace("|  |", "| |")


def _gain(line: dict[str, Any]) -> str:
    gain = line["gain"]
    if line["forecaster"] == "persistence":
        return "0"
    return f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"


def _percent(share: dict[str, Any]) -> str:
    return f"{100 * share['mean']:.1f} %" if share["mean"] else "0"


def rendered(text: str) -> str:
    """The README with the table of the recorded results in its place."""
    boards = {name: json.loads((RESULTS / f"{name}.json").read_text()) for name in ("leaderboard", "from_weights")}
    by_split = {board["split"]: board for board in boards["leaderboard"]["boards"]}
    before, rest = text.split(START)
    lines = table(by_split["task"], by_split["model"], boards["from_weights"]["boards"][0])
    return before + START + lines + END + rest.split(END, 1)[1]


def main() -> None:
    text = rendered(README.read_text())
    write_whole(README, lambda temporary: temporary.write_text(text))
    print(f"written: {README.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
