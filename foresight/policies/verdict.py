"""What the gate finds out about a forecast before a mask is chosen, and how it says so."""

from __future__ import annotations

from dataclasses import dataclass

FEWEST = 3
"""Units of evidence (windows of this run, groups of recorded ones) below which nothing is certain."""


@dataclass(frozen=True)
class Verdict:
    """What the gate found.

    Attributes:
        opens: the forecast is believed.
        best: the best simple candidate, which is held if not.
        overlaps: mean overlap with the circuit of each candidate that could be judged; empty without evidence.
        gain, bound: of the forecast over `best`, and the lower end of its interval; NaN without enough evidence.
        windows, groups: units of evidence from this run and from recorded ones.
        ceiling: mean overlap of two recorded runs of one group at the same step; None if there are none.
    """

    opens: bool
    best: str
    overlaps: dict[str, float]
    gain: float
    bound: float
    windows: int
    groups: int
    ceiling: float | None

    @property
    def words(self) -> str:
        """One sentence for the log."""
        if not self.overlaps:
            return f"holds {self.best}: nothing has been forecast yet that time has answered"
        evidence = f"{self.windows} windows of this run and {self.groups} groups of recorded runs"
        known = ", ".join(f"{name} {value:.2f}" for name, value in self.overlaps.items())
        ceiling = "" if self.ceiling is None else f"; two runs of one group {self.ceiling:.2f}"
        if self.windows + self.groups < FEWEST:
            return f"holds {self.best}: {evidence} are too few to judge by (overlaps: {known}{ceiling})"
        verb = "forecasts" if self.opens else f"holds {self.best}"
        return (
            f"{verb}: the forecast has {self.gain:+.3f} of the circuit over {self.best}, at least {self.bound:+.3f}, "
            f"by {evidence} (overlaps: {known}{ceiling})"
        )
