"""A shift of weights, added to a stock model for the length of a context and gone without a trace afterwards.

A shift maps names of target modules to float32 tensors [output features, input features], the orientation of
`scoring.gradient_taps.WeightOf`; other modules stay as they are. Weights are never written to: a parameter points
to other numbers meanwhile, and to the very same tensor again afterwards, also after an exception. That costs one more
copy of the shifted weights.

bfloat16 weights have three significant digits and swallow a small shift; bfloat16 activations swallow its effect.
Shifts therefore work on float32 weights only; `in_float32` makes a bfloat16 model a float32 one for a while.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import torch
from torch import Tensor, nn

from ...common.errors import ConfigError
from ...model.components import turned

Shift = Mapping[str, Tensor]


@contextmanager
def shifted(model: nn.Module, shift: Shift, factor: float = 1.0) -> Iterator[None]:
    """Add factor x shift to the model's weights inside the context; contexts nest and add up.

    The model may have a bank, whose trained values are added to the shifted weights; it must not be re-masked
    meanwhile.

    Raises:
        ConfigError: a module that the model lacks, another shape, or weights that are not float32 or are sharded over
            processes. Nothing has changed then.
    """
    weights = [_weight(model, name, delta) for name, delta in shift.items()]
    with ExitStack() as stack:
        for weight, delta in weights:
            stored = weight.data
            stack.callback(setattr, weight, "data", stored)
            weight.data = torch.add(stored, delta.to(stored.device, stored.dtype), alpha=factor)
        yield


@contextmanager
def in_float32(model: nn.Module) -> Iterator[None]:
    """Compute in float32 inside the context, with float32 copies of all 16-bit weights and buffers.

    Does nothing to a float32 model. A bank on the model follows, since it takes its dtype from the weights.
    """
    low = [t for t in (*model.parameters(), *model.buffers()) if t.dtype in (torch.bfloat16, torch.float16)]
    with ExitStack() as stack:
        for tensor in low:
            stack.callback(setattr, tensor, "data", tensor.data)
            tensor.data = tensor.data.float()
        yield


def _weight(model: nn.Module, name: str, delta: Tensor) -> tuple[nn.Parameter, Tensor]:
    """The parameter that a delta is for, and the delta as that is stored."""
    try:
        module = model.get_submodule(name)
        weight = module.weight
    except AttributeError as error:
        raise ConfigError(f"the shift names {name!r}, a weight that this model lacks ({error})") from error
    if hasattr(weight, "ds_id"):
        raise ConfigError(f"{name} is sharded by ZeRO 3 and cannot be shifted; use one process, or ZeRO 1 or 2")
    if weight.dtype != torch.float32:
        raise ConfigError(
            f"{name} has dtype {str(weight.dtype).removeprefix('torch.')}, in which a small shift is lost; shift it "
            "inside `in_float32(model)`"
        )
    expected = turned(weight, module).shape
    if delta.shape != expected:
        raise ConfigError(
            f"the shift of {name} has shape {tuple(delta.shape)}; expected {tuple(expected)}, output features x input "
            "features"
        )
    return weight, turned(delta, module)
