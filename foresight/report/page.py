"""What all pages share: one HTML file that needs nothing else, filled from a template and written whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from ..common.files import write_whole
from .style import COLOURS

REPORT = "report.html"


def fill(template: str, filters: Mapping[str, Callable[..., str]], **values: Any) -> str:
    """A template inside the frame that all pages share, as text; whatever is not a figure is escaped."""
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
    """Put a page in its place, whole or not at all; return its path."""

    def write(temporary: Path) -> None:
        temporary.write_text(html, encoding="utf-8")

    write_whole(path, write)
    return path
