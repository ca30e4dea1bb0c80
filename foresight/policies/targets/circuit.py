"""Target `circuit`: which components will be critical at the horizon."""

from .registry import register
from .target import Target


@register("circuit")
class Circuit(Target):
    """The scores of the run's own scorer (attribution where there are contrast pairs) at the horizon."""
