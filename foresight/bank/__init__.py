"""The bank: the one trainable parameter of a run, attached to a frozen model."""

from .base import AnyBank, Remask
from .vectors import Bank
from .weights import WeightBank

__all__ = ["AnyBank", "Bank", "Remask", "WeightBank"]
