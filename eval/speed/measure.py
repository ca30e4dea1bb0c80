"""All measurements in turn, as they are written to JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from foresight.common.errors import DataError

from . import running
from .arms import ARMS, Arm, Place
from .clock import add_share, alternate, basis, ratios
from .growth import growth
from .peaks import allocated_by, peak_of
from .peers import all_arms
from .scoring import FAST, PLAIN, VARIANTS, passes
from .shapes import Shape
from .zero import in_a_group

NEVER_RUN = {"scoring.exact": "it runs the model once a component: no run takes it at a cadence"}
"""What one could want to see here and will not, and why."""
EAP_IG = "it needs TransformerLens, in an environment of its own; `python -m eval.speed.eap_ig --help` says how"
QUICKLY = "left out by --quick"

STEPS_A_ROUND = 2
"""Train steps are short, and a machine's pace changes within them: every round has two of each arm."""

Builders = Mapping[str, Callable[[Place], Arm]]


def measure(place: Place, rounds: int, quick: bool, say: Callable[[str], Any]) -> dict[str, Any]:
    """Everything; a quick measurement leaves out other packages' arms, `VARIANTS`, groups of processes, and growth."""
    arms, missing = all_arms()
    if quick:
        missing |= dict.fromkeys((f"train_step.{name}" for name in arms if name not in ARMS), QUICKLY)
        missing |= dict.fromkeys(("remask.zero2", "remask.zero3", "growth"), QUICKLY)
        missing |= {f"scoring.{name}": QUICKLY for name in VARIANTS}
        arms = ARMS
    scorers = tuple(name for name in FAST if not (quick and name in VARIANTS))
    clock = basis(place.device)
    say("memory of a step")
    peaks = {name: peak_of(build, place) for name, build in arms.items()}  # first: forks must come before threads
    result: dict[str, Any] = {
        "memory": {name: {**one, "over_full": one["peak"] / peaks["full"]["peak"]} for name, one in peaks.items()},
        "not_run": {**NEVER_RUN, "scoring.eap_ig": EAP_IG, **missing},
    }
    say("train steps")
    result |= _train_steps(arms, place, rounds)
    say("scoring passes")
    result["scoring"] = _scoring(scorers, peaks["bank_5pct"], place, rounds)
    say("re-mask, tracking, forecast")
    result["remask"] = _over(running.remask(place, rounds), clock)
    shares = running.tracking(place, rounds)
    result["tracking"] = {**shares, "share": shares["share"]["median"], "share_range": shares["share"]}
    forecast = running.forecast(1 if quick else 3)
    seconds = forecast["seconds_100k"]
    result["forecast"] = {**forecast, "seconds_100k": seconds["median"], "range": seconds}
    if not quick:
        say("re-mask under ZeRO 2 and 3 in two processes on the CPU")
        for stage, found in in_a_group(place.shape, 2, rounds).items():
            result["remask"][stage] = _over(found["remask"], "cpu")
        say("growth")
        result["growth"] = growth(place, rounds)
    return result


def read_eap_ig(file: Path, shape: Shape) -> dict[str, Any]:
    """What `eval.speed.eap_ig` has written to a file.

    Raises:
        DataError: it was measured on another shape.
    """
    found = json.loads(file.read_text())
    if found["shape"] != asdict(shape):
        raise DataError(
            f"{file}: measured on {found['shape']}, but the other scorers are on {asdict(shape)}; measure it again "
            f"with python -m eval.speed.eap_ig, --quick if and only if it is given here"
        )
    return found


def with_eap_ig(result: dict[str, Any], found: dict[str, Any]) -> dict[str, Any]:
    """A result with these figures among those of the other scorers."""
    left = {key: why for key, why in result["not_run"].items() if key != "scoring.eap_ig"}
    scoring = {**result["scoring"], **found["scoring"]}
    return {**result, "scoring": scoring, "not_run": left, "environment_of_eap_ig": found["environment"]}


def _train_steps(arms: Builders, place: Place, rounds: int) -> dict[str, Any]:
    built = {name: build(place) for name, build in arms.items()}
    renewing = [name for name, arm in built.items() if arm.renewal]
    first = {name: alternate({name: built[name].step}, 1, place.device, warm_up=0)[name] for name in renewing}
    times = alternate({name: arm.step for name, arm in built.items()}, STEPS_A_ROUND * rounds, place.device)
    for name in renewing:
        add_share(times[name], first[name], built[name].renewal)
    return {
        "train_step": {
            name: _over(ratios(times[name], times["full"]), basis(place.device), "over_full")
            | {"trained_parameters": sum(p.numel() for p in arm.trained)}
            for name, arm in built.items()
        },
        "lowest_trained_layer": {name: arm.lowest_layer for name, arm in built.items() if arm.bank is not None},
    }


def _scoring(names: tuple[str, ...], peak: Mapping[str, int], place: Place, rounds: int) -> dict[str, Any]:
    """Of a run at 5 %, whose memory is given: it holds the bank and its optimizer while it scores."""
    works = passes(place, names)
    times = alternate(works, rounds, place.device)
    found = {name: _over(ratios(times[name], times[PLAIN]), basis(place.device)) for name in names}
    if place.device == "cpu":
        found["attribution"]["peak_over_training"] = (peak["held"] + allocated_by(works["attribution"])) / peak["peak"]
    return found


def _over(ratio: dict[str, Any], clock: str, key: str = "over_train_step") -> dict[str, Any]:
    """A ratio with its median under a name of its own."""
    return {key: ratio[clock]["median"], **ratio}
