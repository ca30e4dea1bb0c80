"""Faithfulness curves of a study's circuits, with their areas CPR and CMD (`foresight.studies.circuits.faithfulness`).

Components are added to the circuit by |calibrated score|, strongest first. The benchmark that defines the areas can
also rank by signed score; what helps and what hurts are not told apart here, as the study's circuits do not either.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import nn

from ...common.files import json_rows
from ...scoring.probes import Probe
from ...scoring.taps import scoring_mode
from ...trajectory.metrics import top_k
from ..circuits.faithfulness import NoBehaviourError, ablation_of, faithfulness_curve
from ..circuits.floors import Measured

if TYPE_CHECKING:
    from ...model.components import ComponentTable

Row = dict[str, Any]
_log = logging.getLogger(__name__)


def curve_rows(
    model: nn.Module, table: ComponentTable, probes: Mapping[str, Probe], scores: Mapping[str, np.ndarray]
) -> list[Row]:
    """Rows: circuit_of, measure (faithfulness, cpr, cmd, gap), size and fraction (of faithfulness), value, low, high.

    A task whose behaviour the model does not show has no rows, and a warning.

    Args:
        probes, scores: by task; scores [n_components] >= 0 of this model.
    """
    rows: list[Row] = []
    for task, probe in probes.items():
        try:
            with scoring_mode(model):
                curve = faithfulness_curve(model, table, probe, top_k(scores[task], len(table)), *ablation_of(probe))
        except NoBehaviourError as error:
            _log.warning("no faithfulness curve of %s: %s", task, error)
            continue
        for size, fraction, found in zip(curve.sizes, curve.fractions, curve.faithfulness, strict=True):
            rows.append(_row(task, "faithfulness", found, int(size), float(fraction)))
        rows += [_row(task, name, getattr(curve, name)) for name in ("cpr", "cmd", "gap")]
    return json_rows(rows)


def _row(task: str, measure: str, found: Measured, size: int | None = None, fraction: float | None = None) -> Row:
    values = {name: float(value) for name, value in asdict(found).items() if name in ("value", "low", "high")}
    return {"circuit_of": task, "measure": measure, "size": size, "fraction": fraction} | values
