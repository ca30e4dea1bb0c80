"""What a study of location shows: the gaps of every localizer, what follows from them in words, and what does not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from .cells import EDIT, EFFECTS, ITI, METHODS
from .outcomes import Gap, Outcome, gaps


@dataclass(frozen=True)
class Evidence:
    """The result of a study.

    Attributes:
        effect, before: name of the effect that is compared, and its value without an edit.
        heads: number of heads in a set.
        outcomes: method -> every set; gaps: of each method and localizer.
        sentences, caveats: what was found (conclusions first, then the numbers), and what the study does not show.
    """

    effect: str
    before: float
    heads: int
    outcomes: dict[str, list[Outcome]]
    gaps: list[Gap]
    sentences: list[str]
    caveats: list[str]


def judge(outcomes: Mapping[str, Sequence[Outcome]], before: float, effect: str, heads: int) -> Evidence:
    """Judge the outcomes of each method. Raises DataError for a method without a random or without a localized set."""
    every = {method: list(of_method) for method, of_method in outcomes.items()}
    found = [gap for method, of_method in every.items() for gap in gaps(method, of_method)]
    failed = sum(o.failed for of_method in every.values() for o in of_method)
    sentences = [*_conclusions(found), *(_numbers(gap, effect, before) for gap in found)]
    return Evidence(effect, before, heads, every, found, sentences, _caveats(found, failed))


def _numbers(gap: Gap, effect: str, before: float) -> str:
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
    if gap.to_full is not None:
        interval = f" [{gap.to_full.low:+.3f}, {gap.to_full.high:+.3f}]" if gap.to_full.low is not None else ""
        numbers += (
            f"; the difference from full alignment ({gap.full}) is {gap.to_full.mean:+.3f}{interval}, and "
            f"{gap.matching} of {gap.draws} random sets are not shown to fall short of it"
        )
    return f"{METHODS[gap.method]} {found}: {numbers}."


def _conclusions(found: Sequence[Gap]) -> list[str]:
    """What follows for each localizer from all methods together; the optimal edit decides."""
    said = []
    for name in dict.fromkeys(gap.localizer for gap in found):
        finding = {gap.method: gap.finding for gap in found if gap.localizer == name}
        best, shift = finding.get(EDIT), finding.get(ITI)
        nothing = ("no difference", "worse")
        if best == "matters":
            words = "location matters. Even the best edits at random heads rarely do as much."
        elif best in nothing and shift == "matters":
            words = (
                "location matters for the shift, not for the best edit. That the shift works here is no evidence that "
                "the behaviour is here: random heads can be edited as well."
            )
        elif best in nothing:
            words = "no evidence that the location matters. Random heads can be edited as well."
        elif best is None and shift == "matters":
            words = (
                "location matters for the shift. The best edit was not tested, so this is weak evidence of where the "
                "behaviour is."
            )
        elif best is None and shift in nothing:
            words = "no evidence that the location matters, even for the shift."
        else:
            words = "undecided, because there are too few random sets."
        said.append(f"{name}: {words}")
    return said


def _caveats(found: Sequence[Gap], failed: int) -> list[str]:
    """What these results do not show."""
    said = [
        "That a location matters shows that editing there is easier than elsewhere, not that the behaviour is stored "
        "or computed there alone.",
        "That no difference was found only rules out differences larger than the intervals allow; the heads may still "
        "play a part in the behaviour.",
        "Each set's settings were chosen on validation questions for the effect, within max_divergence if that is set: "
        "side effects differ between sets, see the frontier.",
    ]
    if any(gap.finding == "too few sets" for gap in found):
        said.append("With so few random sets no result could be significant after Holm's correction.")
    if failed:
        said.append(f"{failed} runs failed; the settings that they tried were left out.")
    return said
