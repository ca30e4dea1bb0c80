"""Memory that a scoring pass adds to the weights: at published shapes by fake tensors, and measured beside the plan.

    python -m eval.scoring.memory --model SMOLLM2 --out eval/results/scoring

Fake tensors have shapes, dtypes and lifetimes but no data: every pass of the real code runs, and the bytes of all
storages that live at once are counted. Measured are passes over a real model on the CPU, by the events of torch's
allocator, and beside them the prediction of `foresight plan`.
"""

from __future__ import annotations

import argparse
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from foresight.model.components import component_table
from foresight.scoring import make_scorer
from foresight.scoring.attribution import Attribution, IntegratedGradients
from foresight.scoring.exact import substitutes
from foresight.scoring.gradient_taps import weight_gradients
from foresight.scoring.probes import Batch, ContrastProbe, Probe, TextProbe
from foresight.scoring.scorer import Scorer, scoring_mode
from foresight.scoring.taps import sites

GIB = 2**30
ROWS, LENGTH = 4, 2048


def _shape(family: str, hidden: int, neurons: int, layers: int, heads: int, kv: int, vocabulary: int) -> Any:
    return CONFIG_MAPPING[family](
        hidden_size=hidden, intermediate_size=neurons, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=kv, head_dim=128, vocab_size=vocabulary, max_position_embeddings=LENGTH, use_cache=False,
    )  # fmt: skip


SHAPES = {
    "8B (Llama 3.1)": ("llama", 4096, 14336, 32, 32, 8, 128256),
    "32B (Qwen 3)": ("qwen3", 5120, 25600, 64, 64, 8, 151936),
    "70B (Llama 3.1)": ("llama", 8192, 28672, 80, 64, 8, 128256),
}


class Living(TorchDispatchMode):
    """Counts the bytes of storages that operations within make, while they live: `peak` is the most at once."""

    def __init__(self, known: Iterable[Tensor] = ()):
        super().__init__()
        self.now = self.peak = 0
        self._seen: dict[int, Any] = {t.untyped_storage()._cdata: None for t in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (key := tensor.untyped_storage()._cdata) not in self._seen:
                storage = tensor.untyped_storage()
                self._seen[key] = weakref.ref(storage, self._gone(key, storage.nbytes()))
                self.now += storage.nbytes()
                self.peak = max(self.peak, self.now)
        return result

    def _gone(self, key: int, size: int) -> Callable[[Any], None]:
        def gone(_: Any) -> None:
            self.now -= size
            self._seen.pop(key, None)

        return gone


@contextmanager
def _without_data(family: str) -> Iterator[None]:
    """Spare fake tensors what depends on data: masks, as no row is padded, and which tokens have labels: all tokens of
    text, one of a prompt with a wrong answer.
    """
    module = import_module(f"transformers.models.{family}.modeling_{family}")

    def labelled(batch: Batch) -> tuple[Tensor, Tensor]:
        some = (batch.input_ids if batch.wrong is None else batch.wrong).flatten()
        return some, some

    with ExitStack() as stack:
        stack.enter_context(patch.object(Batch, "labelled", property(labelled)))
        for name in ("create_causal_mask", "create_sliding_window_causal_mask"):
            if hasattr(module, name):
                stack.enter_context(patch.object(module, name, lambda *args, **kwargs: None))
        yield


def fake_peak(
    config: Any,
    scorer: Scorer | None,
    rows: int,
    length: int,
    checkpointing: bool = True,
    dtype: torch.dtype = torch.bfloat16,
) -> int:
    """Bytes above the weights at the peak of a pass over a batch; `scorer` None: of weight gradients."""
    fakes = FakeTensorMode(allow_non_fake_inputs=True)
    with fakes:
        model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation="sdpa").requires_grad_(False)
    if checkpointing:
        model.train().gradient_checkpointing_enable({"use_reentrant": False})
    table = component_table(model)
    places = sites(table)
    living = Living([*model.parameters(), *model.buffers()])
    with _without_data(config.model_type), scoring_mode(model), fakes, living:
        ids = torch.zeros(rows, length, dtype=torch.int64)
        pairs = scorer is not None and scorer.needs_pairs
        batch = Batch(ids, torch.ones_like(ids), ids, *((ids, ids[:, 0]) if pairs else ()))
        if scorer is None:
            weight_gradients(model, table, batch, lambda target, gradient: None)
            return living.peak
        probe = scorer._divided(ContrastProbe([batch]))
        if isinstance(scorer, IntegratedGradients):
            scorer._contributions(model, places, len(table), probe.batches[0])
        else:
            assert isinstance(scorer, Attribution)
            replace = substitutes(model, places, probe, scorer.ablation)
            scorer._of_batch(model, places, len(table), probe.batches[0], replace)
    return living.peak


def probe_of(rows: int, length: int, pairs: bool, vocabulary: int) -> Probe:
    """One batch of random tokens: pairs with one label each, or text with a label at each token."""
    ids = torch.randint(vocabulary, (rows, length))
    targets = ids.roll(-1, 1)
    if not pairs:
        return TextProbe([Batch(ids, torch.ones_like(ids), targets)])
    targets[:, :-1] = -100
    return ContrastProbe([Batch(ids, torch.ones_like(ids), targets, ids.flip(1), ids[:, 0])])
