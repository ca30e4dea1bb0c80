"""What a study of location shows, in words, and what it does not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .verdict import Gap

METHODS = {"edit": "The optimal edit", "iti": "The shift along a probe's direction"}
EFFECTS = {
    "choice": "right choices",
    "mass": "probability of right answers",
    "log_probability": "log-probability of the right answer",
    "classifier": "classifier's approval",
    "judge": "judge's rating",
}


def sentence(gap: Gap, effect: str, before: float) -> str:
    """One localizer under one method: the finding, then the numbers."""
    where = f"at the heads of {gap.localizer}"
    found = {
        "matters": f"does more {where} than at random ones",
        "worse": f"does less {where} than at random ones",
        "no difference": f"does not show a difference between the heads of {gap.localizer} and random ones",
        "too few sets": f"cannot be judged {where}: {gap.draws} random sets are too few for a test at 5 %",
    }[gap.finding]
    i = gap.gap
    numbers = (
        f"{EFFECTS[effect]} {gap.effect:.3f} against {gap.random:.3f} on average over {gap.draws} random sets "
        f"({before:.3f} before); it beats {gap.beaten:.0%} of them (p = {gap.p_holm:.3f}), and the gap to one random "
        f"set is {i.mean:+.3f} [{i.low:+.3f}, {i.high:+.3f}], at a divergence of {gap.kl:.2g} against "
        f"{gap.random_kl:.2g} nats on average"
    )
    full = ""
    if gap.to_full is not None and gap.to_full.mean is not None:
        full = f"; to full alignment ({gap.full}) it is {gap.to_full.mean:+.3f}"
        if gap.to_full.low is not None:
            full += f" [{gap.to_full.low:+.3f}, {gap.to_full.high:+.3f}]"
        full += f", and {gap.matching} of {gap.draws} random sets are not shown to fall short of it"
    return f"{METHODS[gap.method]} {found}: {numbers}{full}."


def contrast(gaps: Sequence[Gap]) -> list[str]:
    """What follows for each localizer from all methods together; the optimal edit decides."""
    said = []
    for name in dict.fromkeys(gap.localizer for gap in gaps):
        found = {gap.method: gap.finding for gap in gaps if gap.localizer == name}
        best, shift = found.get("edit"), found.get("iti")
        if best == "matters":
            said.append(f"{name}: location matters. Even the best edits at random heads rarely do as much.")
        elif best in ("no difference", "worse") and shift == "matters":
            said.append(
                f"{name}: location matters for the shift, not for the best edit. That the shift works here is no "
                "evidence that the behaviour is here: random heads can be edited as well."
            )
        elif best in ("no difference", "worse"):
            said.append(f"{name}: no evidence that the location matters. Random heads can be edited as well.")
        elif best is None and shift == "matters":
            said.append(
                f"{name}: location matters for the shift. Whether it does for the best edit was not asked, so that "
                "this is weak evidence of where the behaviour is."
            )
        elif best is None and shift in ("no difference", "worse"):
            said.append(f"{name}: no evidence that the location matters, even for the shift.")
        else:
            said.append(f"{name}: not decided, for want of random sets.")
    return said


def caveats(gaps: Sequence[Gap], failed: int) -> list[str]:
    """What these results do not show."""
    said = [
        "That a location matters shows that editing there is easier than elsewhere, not that the behaviour is stored "
        "or computed there alone.",
        "That no difference was found shows none larger than the intervals allow; it does not show that the heads play "
        "no part in the behaviour.",
        "Settings of every set were chosen on validation questions for the effect, within max_divergence if that is "
        "set: side effects differ between sets, see the frontier.",
    ]
    if any(gap.finding == "too few sets" for gap in gaps):
        said.append("With these few random sets no result could be significant after Holm's correction.")
    if failed:
        said.append(f"{failed} runs failed; the settings that they tried were left out.")
    return said
