"""The report: one self-contained HTML page."""

from .comparison import write_report

__all__ = ["write_report"]
