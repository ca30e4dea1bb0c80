"""A small recurrent network in torch (the GRU of Cho et al. 2014) that all components share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..trajectory.series import Series
from . import register
from .features import GAPS, Frame
from .forecaster import Forecaster, check_range, saved_array

CONTEXT = 64
"""The latest snapshots, which the network reads."""
BATCH = 128
LEARNING_RATE = 0.01
"""AdamW's at the start; it falls linearly to 0."""
BLOCK = 2_048
"""Components predicted at a time."""
INPUTS = 8
LARGEST = 1e3
"""Parameters are of the order of 1: a saved value beyond this is damaged."""


@contextmanager
def _one_thread() -> Iterator[None]:
    """With steps this small more threads do not pay, and sums would depend on their number."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@register("recurrent")
class PooledRecurrent(Forecaster):
    """A GRU over each component's snapshots, and a linear layer that predicts a change from its state.

    The GRU reads z (features.py), its last change, the time, and what the component is. The layer predicts the change
    of z over a horizon h as a + b log(1 + h). `pretrain` trains both on past runs; `fit` continues on this run with a
    quarter of the steps, or with all of them if there are no past runs. Every snapshot but the first is an origin that
    looks GAPS snapshots ahead. Without training the forecast is no change. Horizons beyond the longest in training are
    predicted as that one.

    Args:
        hidden: size of the state, 1 to 256.
        max_iter: training steps of BATCH components of one run, 1 to 100,000.
        min_snapshots: fewest snapshots of this run to train on, at least 3.
    """

    def __init__(self, hidden: int = 16, max_iter: int = 200, min_snapshots: int = 6):
        self.hidden = hidden
        self.max_iter = max_iter
        self.min_snapshots = min_snapshots

    def _check_params(self) -> None:
        check_range(self, "hidden", 1, 256, whole=True)
        check_range(self, "max_iter", 1, 100_000, whole=True)
        check_range(self, "min_snapshots", 3, 1_000_000, whole=True)

    def _pretrain(self, histories: list[Series]) -> None:
        network = _Network(self.hidden)
        self._train(network, [Frame(series) for series in histories], self.max_iter)
        self.pretrained_ = {key: tensor.numpy().copy() for key, tensor in network.state_dict().items()}

    def _fit(self, series: Series) -> None:
        self._frame = Frame(series)
        self.network_ = _Network(self.hidden)
        past, t = hasattr(self, "pretrained_"), len(series.steps)
        if past:
            self.network_.load_state_dict({key: torch.tensor(array) for key, array in self.pretrained_.items()})
        if t >= self.min_snapshots:
            self._train(self.network_, [self._frame], -(-self.max_iter // 4) if past else self.max_iter)
        if not self.network_.longest:
            self.fallback_ = f"persistence: {t} snapshots, {self.min_snapshots} are needed; no past run is long enough"

    @_one_thread()
    def _train(self, network: _Network, frames: list[Frame], steps: int) -> None:
        frames = [frame for frame in frames if len(frame.time) > 2]
        rng = np.random.default_rng(0)
        optimizer = torch.optim.AdamW(network.parameters(), lr=LEARNING_RATE, weight_decay=0.1)
        for step in range(steps if frames else 0):
            optimizer.param_groups[0]["lr"] = LEARNING_RATE * (1 - step / steps)
            frame = frames[step % len(frames)]
            optimizer.zero_grad()
            _loss(network, frame, rng.permutation(len(frame.centred))[:BATCH]).backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    @_one_thread()
    def _predict(self, horizon: int) -> np.ndarray:
        frame, network, rows = self._frame, self.network_, np.arange(len(self.series_))
        ahead = torch.tensor(min(horizon / frame.cadence, float(network.longest)))
        with torch.no_grad():
            seen = (network(_inputs(frame, rows[i : i + BLOCK]))[-1] for i in range(0, len(rows), BLOCK))
            changes = [network.change(block, ahead).numpy() for block in seen]
        return frame.scores(np.concatenate(changes))

    def _pretrained_arrays(self) -> dict[str, np.ndarray]:
        return getattr(self, "pretrained_", {})

    def _load_pretrained(self, arrays: dict[str, np.ndarray]) -> None:
        self.pretrained_ = {
            key: saved_array(arrays, key, np.float32, tuple(tensor.shape), 0 if key == "longest" else -LARGEST, LARGEST)
            for key, tensor in _Network(self.hidden).state_dict().items()
        }


class _Network(nn.Module):
    def __init__(self, hidden: int):
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            self.gru = nn.GRU(INPUTS, hidden)
            self.head = nn.Linear(hidden + INPUTS, 2)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        self.register_buffer("longest", torch.zeros(()))  # horizon in training, in cadences

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """What the head sees after every snapshot, [t, n, hidden + INPUTS]."""
        return torch.cat([self.gru(inputs)[0], inputs], -1)

    def change(self, seen: torch.Tensor, ahead: torch.Tensor) -> torch.Tensor:
        """Changes of z [...] from what the head sees [..., hidden + INPUTS], `ahead` cadences later."""
        constant, slope = self.head(seen).unbind(-1)
        return constant + slope * torch.log1p(ahead)


def _inputs(frame: Frame, rows: np.ndarray) -> torch.Tensor:
    """float32 [t, len(rows), INPUTS] of the last CONTEXT snapshots."""
    recent, unit, time = frame.centred[rows, -CONTEXT:].T, frame.unit[-CONTEXT:, None], frame.time[-CONTEXT:]
    inputs = np.empty((len(time), len(rows), INPUTS), np.float32)
    inputs[..., 0] = recent * unit
    inputs[..., 1] = np.diff(recent, axis=0, prepend=recent[:1]) * unit
    inputs[..., 2] = np.log1p(np.diff(time, prepend=time[0]))[:, None]
    inputs[..., 3] = np.log1p(time)[:, None]
    inputs[..., 4:] = frame.fixed[rows]
    return torch.from_numpy(inputs)


def _loss(network: _Network, frame: Frame, rows: np.ndarray) -> torch.Tensor:
    """Mean Huber loss of the changes of z over all origins and gaps, for some components."""
    seen = network(_inputs(frame, rows))
    centred, unit = torch.from_numpy(frame.centred[rows, -CONTEXT:].T.copy()), torch.from_numpy(frame.unit[-CONTEXT:])
    time = torch.from_numpy(frame.time[-CONTEXT:].astype(np.float32))
    losses = []
    for gap in [gap for gap in GAPS if gap < len(time) - 1]:
        ahead = (time[gap:] - time[:-gap])[1:, None]
        change = (centred[gap:] - centred[:-gap])[1:] * unit[1:-gap, None]
        losses.append(functional.huber_loss(network.change(seen[1:-gap], ahead), change))
        network.longest.fill_(max(float(network.longest), float(ahead.max())))
    return torch.stack(losses).mean()
