"""How long tables, masks and selections take at the sizes of real models.

    python -m eval.scoring.scale

Tables are those of Llama 3.1 8B on the meta device; scores and random masks of single weights those of SmolLM2-135M,
with scores drawn at random: no weights are read. Times are of one process, in seconds.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from foresight.masks.masks import Mask
from foresight.masks.weight_selection import best_weights
from foresight.model.numbering import Numbering
from foresight.model.vector_table import row_table, vector_table
from foresight.model.weight_table import weight_table
from foresight.policies.single_weights.simple import RandomWeights

LLAMA_8B = dict(
    vocab_size=128256, hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32,
    num_key_value_heads=8,
)  # fmt: skip
SMOLLM2_135M = dict(
    vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
    num_key_value_heads=3, tie_word_embeddings=True,
)  # fmt: skip
SHARE = 0.05


def main() -> None:
    large, small = meta_model(LLAMA_8B), meta_model(SMOLLM2_135M)
    table = timed("8B, table of vectors", lambda: vector_table(large))
    timed("8B, its hash", lambda: table.hash)
    chosen = np.random.default_rng(0).permutation(len(table))[: int(SHARE * len(table))]
    mask = Mask.of(chosen)
    timed("8B, ids of a mask of 5 %", lambda: table.vector_ids(mask.components))
    names = timed("8B, names of a mask of 5 %", lambda: mask.names(table))
    timed("8B, a mask from its names", lambda: Mask.from_names(names, table))
    timed("8B, table of rows and its hash", lambda: row_table(large).hash)
    every = weight_table(large)
    timed("8B, 0.23 % of all weights at random", lambda: random_weights(every, int(0.0023 * large.num_parameters())))
    weights = weight_table(small)
    for share in (SHARE, 0.0023):
        n = int(share * small.num_parameters())
        timed(f"135M, {share:.2%} of all weights by score", lambda n=n: best_weights(scores(weights), n))
        timed(f"135M, {share:.2%} of all weights at random", lambda n=n: random_weights(weights, n))
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB")


def timed(what: str, work: Callable[[], Any]) -> Any:
    began, cpu = time.perf_counter(), time.process_time()
    found = work()
    print(f"{what:44}{time.perf_counter() - began:8.2f} s {time.process_time() - cpu:8.2f} CPU s", flush=True)
    return found


def meta_model(config: dict[str, Any]) -> Any:
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(LlamaConfig(**config), dtype=torch.bfloat16)


def scores(table: Numbering) -> Iterator[Any]:
    """|g * w| of each weight, drawn anew, one matrix at a time."""
    generator = torch.Generator().manual_seed(0)
    for target in table.targets:
        yield target, torch.randn(target.n, generator=generator).mul_(torch.randn(1, generator=generator)).abs_()


def random_weights(table: Numbering, n: int) -> Any:
    view: Any = SimpleNamespace(bank=SimpleNamespace(table=table), seed=0, step=0, n_vectors=n)
    return RandomWeights()._choose(view)


if __name__ == "__main__":
    main()
