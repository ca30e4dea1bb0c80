"""Earlier runs, and masks of single weights made of what they, the weights or chance tell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from filelock import FileLock
from torch import Tensor

from foresight.bank.base_weights import as_vectors
from foresight.common.files import write_json
from foresight.forecasters.single_weights.margins import Map, Margins, draws
from foresight.masks.masks import Mask, WeightMask
from foresight.masks.schedule import MaskSchedule
from foresight.masks.selection import select
from foresight.masks.weight_selection import best_weights
from foresight.model.components import component_table
from foresight.model.numbering import Numbering, Target
from foresight.model.weight_table import WeightTable, weight_table

Scores = Callable[[Target], Tensor]
"""Scores of a target's weights, float32 [rows, columns], >= 0."""

EARLIER_RATE = 1e-4


def earlier_run(folder: Path, train: Callable[[Path], None]) -> float:
    """CPU seconds of an earlier run; its folder with its delta is made by `train` if it is not there."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not (folder / "cost.json").exists():
            began = time.process_time()
            train(folder)
            write_json(folder / "cost.json", {"cpu_seconds": time.process_time() - began})
    return json.loads((folder / "cost.json").read_text())["cpu_seconds"]


class Masks:
    """Masks of `n` weights over the matrices of a model.

    Args:
        seed: of everything that is drawn.
    """

    def __init__(self, model: Any, n: int, seed: int):
        self.model, self.n, self.seed = model, n, seed
        self.table: WeightTable = weight_table(model)
        self.generator = torch.Generator().manual_seed(seed)

    def highest(self, scores: Scores) -> WeightMask:
        """The weights of highest score over all matrices."""
        return best_weights(((target, scores(target)) for target in self.table.targets), self.n)

    def rows(self, scores: Scores) -> WeightMask:
        """Whole output rows, by the mean score of their weights; the last one is cut to fit."""
        means = [(target, scores(target).mean(1)) for target in self.table.targets]
        order = np.argsort(-torch.cat([mean for _, mean in means]).numpy(), kind="stable")
        owner = np.concatenate([np.full(len(mean), i) for i, (_, mean) in enumerate(means)])
        first = np.concatenate([np.arange(len(mean)) for _, mean in means])
        ids, room = [], self.n
        for at in order:
            target, rows = means[owner[at]][0], len(means[owner[at]][1])
            columns = target.n // rows
            start = target.offset + int(first[at]) * columns
            ids.append(np.arange(start, start + min(columns, room)))
            room -= len(ids[-1])
            if not room:
                break
        return WeightMask(np.sort(np.concatenate(ids)))

    def by_margins(self, scores: Scores) -> WeightMask:
        """A random mask, drawn by how far rows and columns have moved."""
        found = Map({target.module: Margins.of(scores(target)) for target in self.table.targets})
        drawn = draws([(1.0, found)], [(t.module, t.offset) for t in self.table.targets], self.seed)
        return best_weights(((self.table.target_of[module], moved) for module, moved in drawn), self.n)

    def drawn(self, like: WeightMask, by: str) -> WeightMask:
        """A random mask with as many weights per matrix as `like` has.

        Args:
            by: "row", "column" or both ("row column"): weights are drawn in proportion to its counts per row, per
                column, or the product of the two; "" draws them uniformly (the mask shuffled within its matrices).
        """
        ids = []
        for target, own in self._parts(like):
            rows, columns = self.model.get_submodule(target.module).weight.shape
            chance = torch.ones(rows, columns)
            if "row" in by:
                chance *= torch.bincount(own // columns, minlength=rows)[:, None]
            if "column" in by:
                chance *= torch.bincount(own % columns, minlength=columns)[None, :]
            # The highest keys are drawn without replacement by these chances (Efraimidis & Spirakis, 2006).
            uniform = torch.rand(chance.shape, generator=self.generator).clamp(min=1e-7)
            keys = uniform.log() / chance.clamp(min=1e-30)
            ids.append(target.offset + keys.flatten().topk(len(own)).indices)
        return WeightMask(torch.cat(ids).sort().values.numpy())

    def _parts(self, mask: WeightMask) -> Iterator[tuple[Target, Tensor]]:
        """Targets with the places of their weights that are in the mask."""
        ids = torch.from_numpy(mask.components)
        for target, part in self.table.by_target(ids):
            yield target, ids[part] - target.offset


def circuit(model: Any, scores: Scores, budget: float, mlp_block: int) -> tuple[Mask, Numbering]:
    """The components whose weights score highest in the mean square, and the table that they are numbered in."""
    table = component_table(model, mlp_block)
    squares = [
        as_vectors(scores(target), model.get_submodule(target.module), target).square().mean(1)
        for target in table.targets
    ]
    of_vector = torch.cat(squares).numpy()
    means = np.array([of_vector[table.vector_ids([i])].mean() for i in range(len(table))])
    return select(means, table, int(budget * table.model_parameters) // table.d_model), table


def write(mask: Mask | WeightMask, table: Numbering, folder: Path) -> Path:
    """The mask as a schedule, for policy `replay`."""
    folder.mkdir(parents=True, exist_ok=True)
    schedule = MaskSchedule()
    schedule.append(0, mask)
    schedule.write(folder / "schedule.json", table, mask)
    return folder / "schedule.json"


def magnitude(model: Any, sign: int) -> Scores:
    """|w|, or with sign -1 what ranks the smallest first."""
    return lambda target: sign * model.get_submodule(target.module).weight.detach().abs()


def principal(model: Any, rank: int = 32) -> Scores:
    """|w| in the best approximation of each matrix of that rank: LIFT's principal weights (arXiv 2506.00772)."""

    def scores(target: Target) -> Tensor:
        left, values, right = torch.linalg.svd(model.get_submodule(target.module).weight.detach(), full_matrices=False)
        return ((left[:, :rank] * values[:rank]) @ right[:rank]).abs()

    return scores
