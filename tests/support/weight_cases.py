"""Shifts, scores that are known functions of one weight, and paths of weights whose future is known."""

from __future__ import annotations

import numpy as np
import torch

from foresight.model.components import component_table
from foresight.scoring.scorer import Scorer
from support.tiny import tiny

PLACE = "model.layers.0.self_attn.q_proj"
"""Module whose first weight, u, decides all scores."""


class Known(Scorer):
    """Component i scores f_i(u), from two examples that differ by +-1."""

    name = "known"

    def __init__(self, function):
        self.function = function

    def _check_probe(self, probe):
        pass

    def _samples(self, model, table, probe):
        scores = self.function(model.get_submodule(PLACE).weight[0, 0].item())
        return np.stack([scores - 1, scores + 1])


def setting(start=0.0):
    """A model with u = start, its table, and a shift that moves u by 1."""
    model = tiny()
    model.get_submodule(PLACE).weight.data[0, 0] = start
    delta = torch.zeros(32, 32)
    delta[0, 0] = 1.0
    return model, component_table(model), {PLACE: delta}


class Path:
    """Snapshots of u at steps; reading one after `known_until` is an error."""

    def __init__(self, u, known_until):
        self.u, self.known_until, self.read = dict(u), known_until, []
        self.steps = sorted(self.u)

    def change(self, step):
        assert step <= self.known_until, f"the forecast has looked at step {step}"
        self.read.append(step)
        delta = torch.zeros(32, 32)
        delta[0, 0] = self.u[step]
        return {PLACE: delta}


def a_shift(model, size=0.05, seed=1):
    """A random shift of all target weights, [output features, input features]."""
    generator = torch.Generator().manual_seed(seed)
    shift = {}
    for target in component_table(model).targets:
        module = model.get_submodule(target.module)
        shape = module.weight.shape[::-1] if type(module).__name__ == "Conv1D" else module.weight.shape
        shift[target.module] = size * torch.randn(*shape, generator=generator)
    return shift


def bits(model):
    """Where every weight lies, and a copy of it."""
    return {name: (p.data_ptr(), p.dtype, p.detach().clone()) for name, p in model.named_parameters()}


def same(before, model):
    now = dict(model.named_parameters())
    return before.keys() == now.keys() and all(
        now[name].data_ptr() == where and now[name].dtype == dtype and torch.equal(now[name], value)
        for name, (where, dtype, value) in before.items()
    )


def squared(margins):
    """The squared scale of every weight that margins stand for, [rows, columns]."""
    return margins.rows[:, None] * margins.columns[None, :]
