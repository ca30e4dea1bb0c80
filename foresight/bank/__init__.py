"""The bank: the one trainable parameter of a run, attached to a frozen model."""

from .base import AnyBank
from .vectors import Bank

__all__ = ["AnyBank", "Bank"]
