"""Target `circuit`: which components will be critical at the horizon."""

from .base import Target
from .registry import register


@register("circuit")
class Circuit(Target):
    """The scores of the run's own scorer (attribution where there are contrast pairs) at the horizon."""
