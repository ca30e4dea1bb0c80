"""What a run does besides its steps: re-masks, snapshots at the default cadence, forecasts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from itertools import count

from foresight.forecasters import DEFAULT
from foresight.model.components import component_table
from foresight.scoring import make_scorer
from foresight.training.config import ForesightConfig

from .arms import ARMS, Place, random_mask
from .clock import alternate, basis, ratios, spread
from .scoring import contrast

BATCH, TRAINED, PROMPT = 8, 1024, 32
"""The run that tracking is a share of: rows of a step, their tokens (the defaults), and tokens of a contrast prompt."""
FORECAST = (100_000, 50)
"""Components and snapshots."""


def remask(place: Place, rounds: int) -> dict:
    """`ratios` of a change of half the mask or more, at 5 %, to that arm's train step."""
    arm = ARMS["bank_5pct"](place)
    bank, seeds = arm.bank, count(1)
    assert bank is not None
    works: dict[str, Callable] = {
        "step": arm.step,
        "remask": lambda: bank.remask(random_mask(bank, next(seeds)), arm.optimizer),
    }
    times = alternate(works, rounds, place.device)
    return ratios(times["remask"], times["step"])


def tracking(place: Place, rounds: int) -> dict:
    """Share of a run of full fine-tuning that snapshots take at the default cadence.

    A pass over one batch of contrast pairs and a train step are timed, and scaled to a snapshot's examples and to the
    tokens of a step: their cost per token is taken to be that of the smaller batch, which favours neither by much.
    """
    default = {f.name: f.default for f in fields(ForesightConfig)}
    every, examples, batch = (default[name] for name in ("probe_every", "probe_examples", "probe_batch_size"))
    arm = ARMS["full"](place)
    prompts = replace(place, shape=replace(place.shape, rows=batch, length=PROMPT))
    table, probe, scorer = component_table(arm.model), contrast(prompts), make_scorer("attribution")
    times = alternate({"step": arm.step, "pass": lambda: scorer.score(arm.model, table, probe)}, rounds, place.device)
    scale = BATCH * TRAINED / place.shape.tokens * every / (examples / batch)
    by_round = zip(*(getattr(times[name], basis(place.device)) for name in ("pass", "step")), strict=True)
    shares = [one / (one + scale * step) for one, step in by_round]
    return {
        "share": spread(shares),
        "run": {
            "rows": BATCH, "tokens_a_row": TRAINED, "probe_every": every, "probe_examples": examples,
            "tokens_a_prompt": PROMPT,
        },
    }  # fmt: skip


def forecast(repeats: int) -> dict:
    """Seconds that the default forecaster takes to fit and predict, each time in a process of its own."""
    words = [sys.executable, "-m", "eval.forecast", "--case", DEFAULT, *map(str, FORECAST)]
    found = [
        json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)["seconds"]
        for _ in range(repeats)
    ]
    return {"seconds_100k": spread(found), "forecaster": DEFAULT, "snapshots": FORECAST[1]}
