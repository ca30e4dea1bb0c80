"""Tiny random models of every supported family, made on the spot."""

from __future__ import annotations

import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4)
SPECIAL = dict(pad_token_id=0, bos_token_id=1, eos_token_id=2)
_LLAMA_LIKE = dict(SIZES, **SPECIAL, max_position_embeddings=64, initializer_range=0.2)
_GQA = dict(_LLAMA_LIKE, num_key_value_heads=2)
CONFIGS: dict[str, dict] = {
    "llama": dict(_LLAMA_LIKE, num_key_value_heads=4),
    "mistral": dict(_GQA, sliding_window=None),
    "qwen2": _GQA,
    "qwen3": dict(_GQA, head_dim=16),
    "gemma2": dict(_GQA, head_dim=16, query_pre_attn_scalar=16),
    "gemma3_text": dict(_GQA, head_dim=16, query_pre_attn_scalar=16),
    "phi3": dict(_GQA),
    "gpt2": dict(
        vocab_size=64,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=64,
        initializer_range=0.2,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=1,
        eos_token_id=2,
    ),
    "gpt_neox": dict(_LLAMA_LIKE, rotary_pct=0.5),
}
FAMILIES = tuple(CONFIGS)


def tiny(family: str = "llama", seed: int = 0, dtype: torch.dtype = torch.float32, **changes):
    """A seeded random model of `family`, in eval mode; keyword arguments override its config."""
    torch.manual_seed(seed)
    config = CONFIG_MAPPING[family](**{**CONFIGS[family], **changes})
    return AutoModelForCausalLM.from_config(config).to(dtype).eval()


def published(name: str):
    """The config of a published model by its name on the Hub: its architecture's numbers, in bf16."""
    shared = dict(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        rms_norm_eps=1e-5,
        dtype="bfloat16",
    )
    family, own = {
        "meta-llama/Llama-3.1-8B": ("llama", dict(vocab_size=128256, max_position_embeddings=131072)),
        "mistralai/Mistral-7B-v0.3": (
            "mistral",
            dict(vocab_size=32768, max_position_embeddings=32768, sliding_window=None),
        ),
    }[name]
    return CONFIG_MAPPING[family](**shared, **own)


def tokens(batch: int = 4, length: int = 12, seed: int = 0) -> torch.Tensor:
    """Random token ids [batch, length] that avoid the special ones."""
    return torch.randint(3, 64, (batch, length), generator=torch.Generator().manual_seed(seed))


def tiny_tokenizer():
    """A word-level tokenizer over the 64 ids of the tiny models: "w3" is token 3."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "<s>", "</s>", *(f"w{i}" for i in range(3, 63)), "<unk>"]
    core = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )


def sentences(rows: int = 48, seed: int = 0):
    """A prompt/completion dataset: the completion repeats the prompt's first word."""
    from datasets import Dataset

    ids = tokens(rows, 6, seed).clamp(max=62).tolist()
    return Dataset.from_list([{"prompt": " ".join(f"w{i}" for i in row), "completion": f" w{row[0]}"} for row in ids])


def pairs(rows: int = 12, seed: int = 0):
    """Contrast pairs for the same task: the corrupted prompt starts with another word."""
    from datasets import Dataset

    out = []
    for row in tokens(rows, 6, seed).clamp(max=62).tolist():
        other = row[0] % 59 + 4 if row[0] % 59 + 4 != row[0] else 3
        words = [f"w{i}" for i in row]
        out.append(
            {
                "clean": " ".join(words),
                "corrupted": " ".join([f"w{other}", *words[1:]]),
                "answer": f" w{row[0]}",
                "wrong_answer": f" w{other}",
            }
        )
    return Dataset.from_list(out)
