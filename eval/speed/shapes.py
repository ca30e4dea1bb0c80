"""What is measured on: random Llamas of any size, and a batch of random tokens."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM


@dataclass(frozen=True)
class Shape:
    """Sizes of a model and of its batch. The default is a Llama of 30 M parameters on 8 rows of 64 tokens."""

    layers: int = 8
    width: int = 512
    mlp: int = 1408
    heads: int = 8
    kv_heads: int = 8
    vocabulary: int = 4096
    rows: int = 8
    length: int = 64

    @property
    def tokens(self) -> int:
        """Tokens of a batch."""
        return self.rows * self.length

    def model(self, device: str = "cpu", dtype: torch.dtype = torch.float32) -> LlamaForCausalLM:
        """A model in training mode, its random weights made on the device itself."""
        torch.manual_seed(0)
        config = LlamaConfig(
            hidden_size=self.width, intermediate_size=self.mlp, num_hidden_layers=self.layers,
            num_attention_heads=self.heads, num_key_value_heads=self.kv_heads, vocab_size=self.vocabulary,
            max_position_embeddings=max(64, self.length), use_cache=False, dtype=dtype,
        )  # fmt: skip
        before = torch.get_default_dtype()
        torch.set_default_dtype(dtype)
        try:
            with torch.device(device):
                return LlamaForCausalLM(config).train()
        finally:
            torch.set_default_dtype(before)

    def batch(self, device: str = "cpu", seed: int = 0) -> Tensor:
        """Token ids, int64 [rows, length]."""
        made = torch.randint(
            3, self.vocabulary, (self.rows, self.length), generator=torch.Generator().manual_seed(seed)
        )
        return made.to(device)


QUICK = Shape(layers=4, width=384, mlp=1056, heads=6, kv_heads=6, rows=4)
"""Of a quick measurement."""
