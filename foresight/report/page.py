"""What all pages share: they are filled from a template, need no other file, and are written whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..common.files import write_whole
from .style import COLOURS

REPORT = "report.html"


def fill(template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """Fill a template, inside the frame that all pages share, and return the text. All values are escaped."""
    templates = Environment(
        loader=PackageLoader("foresight.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= filters
    return templates.get_template(template).render(accent=COLOURS["foresight"], **values)


def write_page(path: Path, html: str) -> Path:
    """Write a page, whole or not at all; return its path."""
    write_whole(path, lambda temporary: temporary.write_text(html, encoding="utf-8"))
    return path


def listed(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings that a page lists: those that are not empty."""
    return {name: value for name, value in settings.items() if value not in (None, {}, [], "")}
