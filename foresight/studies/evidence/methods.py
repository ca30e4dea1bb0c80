"""What a study of location can do and measure, by name, with the wording of the report."""

from __future__ import annotations

EDIT, ITI = "edit", "iti"
METHODS = {EDIT: "The optimal edit", ITI: "The shift along a probe's direction"}
READS = ("all", "heads")
"""What the optimal edit reads: all heads of a layer, or its own."""

DIRECTIONS = ("mass_mean", "probe")
"""Directions of the shift, see `probes.shifts`."""

EFFECTS = {
    "choice": "right choices",
    "mass": "probability of right answers",
    "log_probability": "log-probability of the right answer",
    "classifier": "classifier's approval",
    "judge": "judge's rating",
}
"""See `measures`."""
