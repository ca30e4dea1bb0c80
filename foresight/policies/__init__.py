"""Policies: which components, vectors or single weights are trained next, under the budget.

`catalogue` has all of them by name. Nothing is imported here, so that names can be checked at no cost.
"""
