"""Localizers as plug-ins: each says how much the heads of a model have to do with a behaviour."""

from .base import Case, Localizer
from .registry import REGISTRY, localizer_names, make_localizer, register

__all__ = ["REGISTRY", "Case", "Localizer", "localizer_names", "make_localizer", "register"]
