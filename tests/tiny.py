"""Tiny random models of every supported family, made on the spot."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
_LLAMA_LIKE = dict(SIZES, max_position_embeddings=64, initializer_range=0.2, pad_token_id=0, bos_token_id=1, eos_token_id=2)
_GQA = dict(_LLAMA_LIKE, num_key_value_heads=2)
CONFIGS: dict[str, dict] = {
    "llama": dict(_LLAMA_LIKE, num_key_value_heads=4),
    "mistral": dict(_GQA, sliding_window=None),
    "qwen2": _GQA,
    "qwen3": dict(_GQA, head_dim=16),
    "gemma2": dict(_GQA, head_dim=16, query_pre_attn_scalar=16),
    "gemma3_text": dict(_GQA, head_dim=16, query_pre_attn_scalar=16),
    "phi3": dict(_GQA),
    "gpt2": dict(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64, initializer_range=0.2,
                 resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, bos_token_id=1, eos_token_id=2),
    "gpt_neox": dict(_LLAMA_LIKE, rotary_pct=0.5),
}
FAMILIES = tuple(CONFIGS)


def tiny(family: str = "llama", seed: int = 0, dtype: torch.dtype = torch.float32, **changes):
    """A seeded random model of `family`, in eval mode; keyword arguments override its config."""
    torch.manual_seed(seed)
    config = CONFIG_MAPPING[family](**{**CONFIGS[family], **changes})
    return AutoModelForCausalLM.from_config(config).to(dtype).eval()


def tokens(batch: int = 4, length: int = 12, seed: int = 0) -> torch.Tensor:
    """Random token ids [batch, length] that avoid the special ones."""
    return torch.randint(3, 64, (batch, length), generator=torch.Generator().manual_seed(seed))
