"""Memory that a scoring pass adds to the weights: at published shapes by fake tensors, and measured beside the plan.

    python -m eval.scoring.memory --model SMOLLM2 --out eval/results/scoring

Fake tensors have shapes, dtypes and lifetimes but no data: the passes of the real code run, and the bytes of all
storages that live at once are counted. Since every layer adds the same, two shallow models tell a deep one's peak.
Measured are passes over a real model on the CPU, by the events of torch's allocator. Beside both stands what
`foresight plan` predicts.
"""

from __future__ import annotations

import argparse
import copy
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from foresight.common.files import write_json
from foresight.model.components import ComponentTable, component_table
from foresight.scoring import make_scorer
from foresight.scoring.attribution import Attribution, IntegratedGradients
from foresight.scoring.exact import TOKENS_PER_RUN, ablation_effects, substitutes
from foresight.scoring.gradient_taps import weight_gradients
from foresight.scoring.probes import Batch, ContrastProbe, Probe, TextProbe
from foresight.scoring.scorer import Scorer, scoring_mode
from foresight.scoring.taps import sites
from foresight.training.config import ForesightConfig
from foresight.training.plan import Plan

from ..speed.peaks import allocated_by

GIB = 2**30
ROWS, LENGTH = 4, 2048
FAKED = ("gradient_activation", "attribution", "attribution_ig", "gradient_local")
MEASURED = (
    ("gradient_activation", 4, 128, True),
    ("gradient_activation", 4, 256, False),
    ("attribution", 8, 64, True),
    ("attribution", 8, 64, False),
    ("gradient_local", 4, 128, True),
    ("gradient_local", 4, 128, False),
    ("calibration", 16, 64, False),
)
"""Scorer, rows and length of a batch, whether layers are checkpointed. `gradient_local` stands for all that take weight
gradients: it adds up nothing on the host, which is the CPU as well here."""


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


def deep_peak(config: Any, scorer: Scorer | None, rows: int, length: int) -> int:
    """`fake_peak` of a model of all the config's layers, by the line through those of two and of four."""
    shallow = []
    for layers in (2, 4):
        part = copy.deepcopy(config)
        part.num_hidden_layers = layers
        if hasattr(part, "layer_types"):
            part.layer_types = part.layer_types[:layers]
        shallow.append(fake_peak(part, scorer, rows, length))
    return shallow[0] + (config.num_hidden_layers - 2) * (shallow[1] - shallow[0]) // 2


def planned(model: nn.Module, scorer: str, rows: int, length: int, checkpointing: bool) -> dict[str, int]:
    """Bytes of the phases of scoring that `foresight plan` predicts for a run with that scorer and probe batch."""
    args = ForesightConfig(
        output_dir="unused", policy="reactive", scorer=scorer, probe_batch_size=rows, max_length=length, use_cpu=True,
        bf16=False, gradient_checkpointing=checkpointing, report_to="none",
    )  # fmt: skip
    return dict(Plan(model, args, None, pairs=scorer.startswith("attribution")).sizes.scoring)


def at_shapes() -> dict[str, dict[str, list[int]]]:
    """By shape and scorer: bytes above the weights, [by fake tensors, planned]; bf16, under checkpointing."""
    found: dict[str, dict[str, list[int]]] = {}
    for shape, numbers in SHAPES.items():
        config = _shape(*numbers)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
        for name in FAKED:
            scorer = None if name == "gradient_local" else make_scorer(name)
            peak = deep_peak(config, scorer, ROWS, LENGTH)
            found.setdefault(shape, {})[name] = [peak, planned(model, name, ROWS, LENGTH, True)["scoring"]]
            print(shape, name, *(f"{n / GIB:.2f}" for n in found[shape][name]), flush=True)
    return found


def patched(model: nn.Module, table: ComponentTable, probe: Probe, groups: list[list[int]]) -> np.ndarray:
    """The forward passes of a calibration: some components patched one by one."""
    with scoring_mode(model):
        return ablation_effects(model, table, probe, groups)


def on_a_model(path: str) -> dict[str, list[int]]:
    """By case: bytes above the weights at the peak of a scoring pass, [measured, planned]; fp32, on the CPU."""
    found = {}
    for name, rows, length, checkpointing in MEASURED:
        model = AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32).requires_grad_(False)
        if checkpointing:
            model.train().gradient_checkpointing_enable({"use_reentrant": False})
        table = component_table(model)
        probe = probe_of(rows, length, name in ("attribution", "calibration"), model.config.vocab_size)
        phase = "calibration" if name == "calibration" else "scoring"
        scorer = "attribution" if name == "calibration" else name
        expected = planned(model, scorer, rows, length, checkpointing)[phase]
        if name == "calibration":
            groups = [[i] for i in range(TOKENS_PER_RUN // (rows * length))]
            work = partial(patched, model, table, probe, groups)
        else:
            work = partial(make_scorer(name).samples, model, table, probe)
        case = f"{name}, {rows} x {length}, {'checkpointing' if checkpointing else 'plain'}"
        found[case] = [allocated_by(work), expected]
        print(case, *(f"{n / 1e6:.0f} MB" for n in found[case]), flush=True)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="memory that scoring adds to the weights")
    parser.add_argument("--model", required=True, help="folder of a real model to measure on")
    parser.add_argument("--out", type=Path, required=True, help="folder for memory.json")
    given = parser.parse_args()
    torch.set_num_threads(1)
    measured, shapes = on_a_model(given.model), at_shapes()
    given.out.mkdir(parents=True, exist_ok=True)
    settings = {name: version(name) for name in ("torch", "transformers")} | {"rows": ROWS, "length": LENGTH}
    write_json(
        given.out / "memory.json",
        {"settings": settings, "bytes [fake tensors, planned]": shapes, "bytes [measured, planned]": measured},
    )


if __name__ == "__main__":
    main()
