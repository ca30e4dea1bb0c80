"""Policy `foresight` over single weights: those that moved farthest in other runs, and whose row and column do now."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from ...bank.weights import WeightBank
from ...common.errors import CheckpointError
from ...forecasters.single_weights.margins import Map, Margins, draws
from ...forecasters.single_weights.mixing import Moved, forecast
from ...masks.masks import WeightMask
from ...masks.weight_selection import Best
from ..policy import Ground, View
from .sources import map_of, shapes_of, spread
from .weight_policy import WeightPolicy, WeightView

_log = logging.getLogger(__name__)

MOST = 64
"""Weights per row that are looked at, where all weights of a matrix are trained."""


class WeightForesight(WeightPolicy):
    """Begins with the weights that moved farthest in other runs, or random ones, and chooses anew in the first third of
    the run, by its own movement as well.

    Of weights that nothing is known of, a movement is drawn by row and column. Each weight keeps its random number, so
    that a mask changes only as far as the forecast does.

    With `scale_rate` the run's learning rate is that of a random mask, too high for weights that move farther. It is
    divided by how much farther than the average those of the first mask have moved by the maps. Adam moves a weight the
    farther the more its gradients agree in sign; with equal distances outputs change about equally. The rule is our
    own; it gave .31 for masks whose best of three rates, a factor of 3 apart, was a third of that of random weights.

    Attributes:
        shares: what each map, and last the run's own movement, was worth at the last decision; they sum to 1.
    """

    name = "foresight"
    forecasts = True
    remasks = True
    latest = 1 / 3  # what enters later has too few steps left to catch up

    def __init__(
        self,
        maps: Sequence[str] | None = None,
        lora_steps: int | None = None,
        scale_rate: bool = True,
        own: bool = True,
        watch: str = "hold",
        watch_steps: int | None = None,
    ):
        self.sources, self.lora_steps, self.scale_rate, self.own = list(maps or []), lora_steps, scale_rate, own
        self.scouts = "adapter" if lora_steps else ""
        self.watch, self.watch_steps = watch, watch_steps
        self.forecasts = self.remasks = own
        self.shares: list[float] = []
        self._scout: Map | None = None
        self._last: tuple[tuple[int, int], tuple[WeightMask, float]] | None = None
        self._since = np.zeros(0, np.int64)  # of each weight of the mask, the step at which it entered
        self._ids = np.zeros(0, np.int64)

    def prepare(self, ground: Ground) -> None:
        self.sources = spread(self.sources)
        self.maps: list[Map] = [map_of(source, ground.model, ground.numbers) for source in self.sources]
        self.shapes, self.numbers = shapes_of(ground.model, ground.numbers), ground.numbers

    def scouted(self, found: Map) -> None:
        """Take what the scout has found."""
        self._scout = found
        self.maps, self.sources = [*self.maps, found], [*self.sources, "the scout"]

    def rate_factor(self, n_vectors: int, seed: int) -> float:
        if not self.maps or not self.scale_rate:
            return 1.0
        factor = self._drawn(n_vectors, seed)[1]
        said = "the learning rate is divided by %.2f: so much farther than others have the mask's weights moved"
        _log.info(said, 1 / factor)
        return factor

    def watched(self, view: View) -> WeightMask:
        """The mask before the run's own movement counts."""
        assert isinstance(view, WeightView)
        return self._entered(self._choose(view), view.step)

    def _choose(self, view: WeightView) -> WeightMask:
        return self._drawn(view.n_vectors, view.seed)[0]

    def _drawn(self, n: int, seed: int) -> tuple[WeightMask, float]:
        """`_draw` by the maps alone, which all count the same; where there are none, each weight is as likely as the
        others. The last answer is kept, as the first mask is asked for twice."""
        if self._last is None or self._last[0] != (n, seed):
            maps = self.maps or [Map({m: Margins(torch.ones(r), torch.ones(c)) for m, (r, c) in self.shapes.items()})]
            self._last = (n, seed), self._draw([(1 / len(maps), one) for one in maps], n, seed)
        return self._last[1]

    def mask(self, view: View) -> WeightMask:
        assert isinstance(view, WeightView)
        if not self.own:
            return self._entered(self._choose(view), view.step)
        found = forecast(self._moved(view.bank, view.step), self.maps)
        self.shares = [round(share, 3) for share, _ in found]
        self.notes = {"own_share": self.shares[-1]}
        named = zip([*self.sources, "this run"], self.shares, strict=True)
        _log.info("step %d: the mask is drawn by %s", view.step, ", ".join(f"{name} {s:.2f}" for name, s in named))
        return self._entered(self._draw(found, view.n_vectors, view.seed)[0], view.step)

    def _draw(self, maps: Sequence[tuple[float, Map]], n: int, seed: int) -> tuple[WeightMask, float]:
        """The n weights that move farthest by the maps, and the distance of an average weight over that of theirs."""
        targets, best, total = self.numbers.target_of, Best(n), 0.0
        for module, logs in draws(maps, [(t.module, t.offset) for t in self.numbers.candidates], seed):
            moved, offset = logs.flatten().exp(), targets[module].offset
            total += float(moved.sum())
            best.add(torch.arange(offset, offset + len(moved)), moved)
        return best.mask(), total / self.numbers.available / max(float(best.found()[1].mean()), 1e-30)

    def _entered(self, mask: WeightMask, step: int) -> WeightMask:
        """Note when each weight of a mask has entered."""
        since = np.full(len(mask), step)
        _, kept, before = np.intersect1d(mask.components, self._ids, assume_unique=True, return_indices=True)
        since[kept] = self._since[before]
        self._ids, self._since = mask.components, since
        return mask

    @torch.no_grad()
    def _moved(self, bank: WeightBank, step: int) -> dict[str, Moved]:
        """How far the weights of the mask have moved per step, matrix by matrix; those that have just entered are left
        out, and of a matrix that is trained whole a sample of `MOST` weights per row is taken."""
        values = bank.placement.values(bank.vectors)[: len(bank.ids)].flatten()
        chosen = len(self._ids) == len(bank.ids)  # else all weights are trained, and have been from the beginning
        since = torch.from_numpy(self._since) if chosen else torch.zeros(len(bank.ids), dtype=torch.int64)
        generator, none = torch.Generator().manual_seed(step), torch.zeros(0, dtype=torch.int64)
        found = {module: Moved(shape, none, none, torch.zeros(0)) for module, shape in self.shapes.items()}
        for target, part in bank.table.by_target(bank.ids):
            shape = self.shapes[target.module]
            taken = (since[part] < step).nonzero().flatten()
            if len(taken) > MOST * shape[0]:
                taken = taken[torch.randperm(len(taken), generator=generator)[: MOST * shape[0]].sort().values]
            places = (bank.ids[part] - target.offset)[taken]
            distance = values[part][taken.to(values.device)].float().cpu() / (step - since[part][taken])
            found[target.module] = Moved(shape, places // shape[1], places % shape[1], distance)
        return found

    # -- state ------------------------------------------------------------------------------------------------------

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        scout = {} if self._scout is None else {name: side.numpy() for name, side in self._scout.sides().items()}
        return {"ids": self._ids, "since": self._since, **scout}, {"shares": self.shares}

    def load_state(self, arrays: Mapping[str, np.ndarray], data: Mapping[str, Any]) -> None:
        sides = {module: (f"{module}/rows", f"{module}/columns") for module in self.shapes if self.scouts}
        if set(arrays) != {"ids", "since"}.union(*sides.values()) or set(data) != {"shares"}:
            raise CheckpointError(
                f"the checkpoint is not of policy 'foresight' over single weights: it has {[*arrays, *data]}"
            )
        self._ids, self._since, self.shares = arrays["ids"], arrays["since"], list(data["shares"])
        if sides:
            found = {
                module: Margins(*(torch.from_numpy(arrays[name]) for name in pair)) for module, pair in sides.items()
            }
            self.scouted(Map(found))
