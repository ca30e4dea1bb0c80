"""Policies: which components (or single weights, see `weights`) are trained next, under the budget."""

from .base import Past, Policy, View
from .registry import NEEDS, POLICIES, make_policy, policy_class

__all__ = ["NEEDS", "POLICIES", "Past", "Policy", "View", "make_policy", "policy_class"]
