"""Which families of transformers can be masked: a tiny random model of each, and the table in foresight/model.

    python -m eval.families

It takes a minute. `tests/model/test_families.py` trains what it lists.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import track
from torch import nn
from transformers import AutoModelForCausalLM, logging
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

from foresight.common.errors import ArchitectureError
from foresight.model.architectures import layers_of
from foresight.model.components import component_table
from foresight.model.self_check import check_components

TABLE = Path(__file__).parents[1] / "foresight" / "model" / "README.md"
BEGIN = "<!-- made by eval/families.py -->\n"
LARGEST = 30_000_000
"""Parameters beyond which a model is not tiny, so that `SIZES` or `OWN` lack something."""
SIZES: dict[str, Any] = dict(
    vocab_size=64, hidden_size=32, d_model=32, n_embd=32, intermediate_size=48, ffn_dim=48, decoder_ffn_dim=48,
    num_hidden_layers=2, n_layer=2, n_layers=2, num_layers=2, decoder_layers=2, num_attention_heads=4, n_head=4,
    n_heads=4, num_heads=4, attention_heads=4, decoder_attention_heads=4, num_key_value_heads=2, num_kv_heads=2,
    head_dim=8, v_head_dim=8, rotary_dim=8, max_position_embeddings=64, n_positions=64, n_ctx=64, max_seq_len=64,
    initializer_range=0.2, pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1,
    num_local_experts=4, num_experts=4, n_routed_experts=4, moe_num_experts=4, num_experts_per_tok=2, moe_k=2,
    moe_topk=2, n_group=1, topk_group=1, first_k_dense_replace=1, moe_intermediate_size=16, expert_ffn_size=16,
    shared_expert_intermediate_size=24, shared_intermediate_size=24, dense_intermediate_size=48, q_lora_rank=16,
    kv_lora_rank=16, qk_nope_head_dim=8, qk_rope_head_dim=8, dropout=0.0, hidden_dropout=0.0, attention_dropout=0.0,
    activation_dropout=0.0, resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, embedding_dropout=0.0, resid_dropout=0.0,
    embed_dropout=0.0, layerdrop=0.0, decoder_layerdrop=0.0,
)  # fmt: skip
"""Settings by the names that families have for them; each takes those that it knows."""
_TOWER = dict(
    hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8
)
OWN: dict[str, dict[str, Any]] = {
    "bamba": dict(mamba_n_heads=4, mamba_d_head=16, attn_layer_indices=[1]),
    "falcon": dict(head_dim=None, num_kv_heads=None, multi_query=True),
    "gemma4_text": dict(vocab_size_per_layer_input=64, hidden_size_per_layer_input=8, global_head_dim=16),
    "granitemoehybrid": dict(mamba_n_heads=4, mamba_d_head=16, layer_types=["mamba", "attention"]),
    "zamba2": dict(layer_types=["mamba", "hybrid"]),
    "gpt_neo": dict(attention_types=[[["global", "local"], 1]]),
    "gemma3": dict(text_config=SIZES, vision_config=_TOWER, mm_tokens_per_image=4),
    "jamba": dict(attn_layer_period=2, attn_layer_offset=1, mamba_dt_rank=4),
    "qwen3_5_text": dict(num_hidden_layers=4),
    "qwen3_5_moe_text": dict(num_hidden_layers=4),
    "qwen3_5": dict(text_config=dict(SIZES, num_hidden_layers=4), vision_config=dict(_TOWER, depth=1, num_heads=2)),
    "qwen3_next": dict(num_hidden_layers=4),
    "recurrent_gemma": dict(num_hidden_layers=3, lru_width=32),
    "lfm3": dict(num_hidden_layers=3),
    "zaya": dict(num_experts_per_tok=1),
}
"""Settings of single families, which win; None leaves a setting of `SIZES` out."""


def tiny_family(family: str, seed: int = 0) -> nn.Module:
    """A seeded random model of a family, in float32 and eval mode. Raises whatever transformers raises."""
    cls, own = CONFIG_MAPPING[family], OWN.get(family, {})
    with contextlib.redirect_stdout(io.StringIO()):
        known = dir(cls())
    values = {name: value for name, value in SIZES.items() if name in known}
    if "kv_lora_rank" in known:  # latent attention: `head_dim` is what positions are added to
        values |= {"num_key_value_heads": 4, "head_dim": None}
    values |= own
    config = cls(**{name: value for name, value in values.items() if value is not None})
    with torch.device("meta"):
        size = sum(p.numel() for p in AutoModelForCausalLM.from_config(config).parameters())
    if size > LARGEST:
        raise ValueError(f"it has {size:,} parameters even so")
    torch.manual_seed(seed)
    return AutoModelForCausalLM.from_config(config).float().eval()


def outcome(family: str) -> tuple[str, str]:
    """(taken, refused or untried; what of it, or why not)."""
    try:
        model = tiny_family(family)
    except Exception:  # whatever is wrong with settings that are not its own
        return "untried", "no tiny model of it was made"
    try:
        table = component_table(model)
        check_components(model, table)
    except ArchitectureError as error:
        return "refused", _reason(str(error))
    kinds = {"head": "heads", "kv": "KV groups", "mlp": "MLPs"}
    layers = {name: len(np.unique(table.layer[table.kind == kind])) for kind, name in kinds.items()}
    n = len(layers_of(model))
    said = [name if count == n else f"{name} in {count} of {n} layers" for name, count in layers.items() if count]
    experts = any("expert" in name for name, weight in model.named_parameters() if weight.ndim == 3)
    return "taken", ", ".join(said) + ("; routed experts frozen" if experts else "")


def _reason(message: str) -> str:
    reasons = {
        "has attention or an MLP": "another layout",
        "share weights": "layers share their weights",
        "more than once": "layers run several times",
        "is not what its layout says": "the self-check fails, since heads or layers are coupled",
    }
    return next((reason for said, reason in reasons.items() if said in message), message)


def listed() -> list[str]:
    """Families that the table takes."""
    return [line.split("`")[1] for line in TABLE.read_text().splitlines() if line.startswith("| `")]


def page(found: dict[str, tuple[str, str]]) -> str:
    taken = {family: words for family, (how, words) in found.items() if how == "taken"}
    reasons: dict[str, list[str]] = {}
    for family, (how, reason) in sorted(found.items(), key=lambda item: item[1][0]):  # the refused, then the untried
        if how != "taken":
            reasons.setdefault(reason, []).append(family)
    lines = [f"| `{family}` | {words} |" for family, words in taken.items()]
    left = [f"- {reason}: {', '.join(families)}." for reason, families in reasons.items()]
    counts = f"Of the {len(found)} causal families of transformers {version('transformers')}, {len(taken)} are taken:"
    return "\n".join([
        BEGIN, counts,
        "", "| model type | what can be masked |", "|---|---|", *lines, "", "Not taken:", "", *left, "",
    ])  # fmt: skip


def main() -> None:
    argparse.ArgumentParser(description=__doc__.split("\n")[0]).parse_args()
    logging.set_verbosity_error()
    warnings.filterwarnings("ignore")
    found = {}
    for family in track(list(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES), "families"):
        found[family] = outcome(family)
    head = TABLE.read_text().split(BEGIN)[0]
    TABLE.write_text(head + page(found))


if __name__ == "__main__":
    main()
