"""Edge and head scores of EAP-IG itself on small models, for test_edges.py: writes eap_reference.json beside this file.

EAP-IG (https://github.com/hannamw/EAP-IG, MIT) runs on TransformerLens below version 3 and so on older libraries than
this project; give it an environment of its own:

    python -m venv eap && . eap/bin/activate
    pip install 'torch<2.14' 'transformer-lens>=2.15,<3' 'pyarrow<21'
    PYTHONPATH=EAP-IG/src python tests/scoring/data/make_eap_reference.py "where the EAP-IG code came from"

EAP-IG's functions get token ids in place of text, the CPU where they say "cuda", and minus the logit difference, summed
over the batch, for a metric. Its edge scores by integrated gradients take the points k/m with k = 0..m-1 between
corrupted and clean (the paper: k = 1..m); with the two prompts swapped the same function takes the paper's points and
gives the negative score. Both are recorded.

The tests make the same models by `seeded_model`, whose weights depend on parameter names and numpy's frozen generator.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

_SIZES = dict(vocab_size=64, hidden_size=32, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4)
CONFIGS = {
    "gpt2": dict(vocab_size=64, n_embd=32, n_layer=2, n_head=4, n_positions=64),
    "llama": dict(_SIZES, num_key_value_heads=4, max_position_embeddings=64, rms_norm_eps=1e-6),
    "gpt_neox": dict(_SIZES, rotary_pct=0.5, max_position_embeddings=64, use_parallel_residual=True),
}
STEPS = 5


def seeded_model(family: str) -> torch.nn.Module:
    """A model of CONFIGS in eval mode, every parameter (norms and biases too) filled with noise by its name."""
    model = AutoModelForCausalLM.from_config(CONFIG_MAPPING[family](**CONFIGS[family])).eval()
    head = model.get_output_embeddings().weight  # GPT-NeoX has had two names for it
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            seed = zlib.crc32(b"head" if parameter is head else name.encode())
            noise = np.random.RandomState(seed).standard_normal(parameter.shape)
            norm = parameter.ndim == 1 and name.endswith("weight")
            scale, shift = (0.3, 1.0) if norm else (0.2, 0.0)
            parameter.copy_(torch.from_numpy(shift + scale * noise))
    return model


def inputs() -> dict[str, list]:
    """Six contrast pairs of eight tokens that differ at the third and fifth, with answers."""
    random = np.random.RandomState(0)
    clean = random.randint(3, 64, (6, 8))
    corrupted = clean.copy()
    corrupted[:, [2, 4]] = (clean[:, [2, 4]] + 20) % 60 + 3
    answer = random.randint(3, 33, 6)
    wrong = answer + random.randint(1, 30, 6)
    named = dict(clean=clean, corrupted=corrupted, answer=answer, wrong=wrong)
    return {name: array.tolist() for name, array in named.items()}


def hooked(family: str, model: torch.nn.Module):
    """The TransformerLens model with the same weights, nothing folded or centred."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained import weight_conversions

    of_family = {
        "gpt2": dict(act_fn="gelu_new", normalization_type="LN", eps=1e-5),
        "llama": dict(
            act_fn="silu", normalization_type="RMS", eps=1e-6, gated_mlp=True, final_rms=True,
            positional_embedding_type="rotary", rotary_dim=8, rotary_adjacent_pairs=False,
        ),
        "gpt_neox": dict(
            act_fn="gelu", normalization_type="LN", eps=1e-5, parallel_attn_mlp=True,
            positional_embedding_type="rotary", rotary_dim=4, rotary_adjacent_pairs=False,
        ),
    }[family]  # fmt: skip
    config = HookedTransformerConfig(
        n_layers=2, d_model=32, n_ctx=64, d_head=8, n_heads=4, d_mlp=128, d_vocab=64, device="cpu", **of_family
    )
    convert = getattr(weight_conversions, f"convert_{family.replace('gpt_neox', 'neox')}_weights")
    result = HookedTransformer(config)
    result.load_and_process_state_dict(
        convert(model, config),
        fold_ln=False,
        center_writing_weights=False,
        center_unembed=False,
        fold_value_biases=False,
    )
    result.set_use_attn_result(True)
    result.set_use_split_qkv_input(True)
    result.set_use_hook_mlp_in(True)
    return result


def logit_difference(logits: torch.Tensor, label: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """Answer minus wrong answer at the last position: [B]."""
    rows = torch.arange(len(logits))
    return logits[rows, -1, label[0]] - logits[rows, -1, label[1]]


def our_name(node: str) -> str:
    """EAP-IG's a0.h1 and m0 are our L0.head.1 and L0.mlp."""
    if node.startswith("a"):
        layer, head = node[1:].split(".h")
        return f"L{layer}.head.{head}"
    return f"L{node[1:]}.mlp" if node.startswith("m") else node


def reference(family: str, data: dict[str, list]) -> dict:
    from eap import attribute, attribute_node
    from eap.graph import Graph

    model = hooked(family, seeded_model(family))
    clean, corrupted = torch.tensor(data["clean"]), torch.tensor(data["corrupted"])
    label = torch.tensor(data["answer"]), torch.tensor(data["wrong"])
    graph = Graph.from_model(model)

    def metric(logits, clean_logits, lengths, label):
        return -logit_difference(logits, label).sum()

    forward, swapped = [(clean, corrupted, label)], [(corrupted, clean, label)]
    scores = {
        "eap": attribute.get_scores_eap(model, graph, forward, metric, quiet=True),
        "eap_ig": -attribute.get_scores_eap_ig(model, graph, swapped, metric, steps=STEPS, quiet=True),
        "eap_ig_from_zero": attribute.get_scores_eap_ig(model, graph, forward, metric, steps=STEPS, quiet=True),
    }
    heads = {
        "eap": attribute_node.get_scores_eap(model, graph, forward, metric, quiet=True),
        "eap_ig": attribute_node.get_scores_eap_ig(model, graph, forward, metric, steps=STEPS, quiet=True),
    }
    edges = [
        [our_name(e.parent.name), our_name(e.child.name), e.qkv or e.child.name.replace(f"m{e.child.layer}", "mlp")]
        + [float(f"{scores[name][e.matrix_index].item():.7g}") for name in scores]
        for e in graph.edges.values()
    ]
    nodes = [
        [our_name(n.name)] + [float(f"{heads[name][graph.forward_index(n, False)].item():.7g}") for name in heads]
        for n in graph.nodes.values()
        if n.name.startswith("a")
    ]
    differences = logit_difference(model(clean), label).tolist()
    return {"config": CONFIGS[family], "logit_difference": differences, "edges": edges, "heads": nodes}


def main() -> None:
    try:
        import pygraphviz  # noqa: F401
    except ImportError:  # for drawing only
        sys.modules["pygraphviz"] = type(sys)("pygraphviz")
    zeros = torch.zeros
    if not torch.cuda.is_available():
        torch.zeros = lambda *args, **kwargs: zeros(*args, **{**kwargs, "device": "cpu"})

    from eap import attribute, attribute_node

    def already_tokens(model, ids, max_length=None):
        return ids, torch.ones_like(ids), torch.full((len(ids),), ids.shape[1]), ids.shape[1]

    attribute.tokenize_plus = attribute_node.tokenize_plus = already_tokens
    data = inputs()
    result = {
        "made_by": "tests/scoring/data/make_eap_reference.py",
        "eap_ig_code": sys.argv[1],
        "versions": {name: version(name) for name in ("torch", "transformer-lens", "transformers", "numpy")},
        "metric": "minus the logit difference answer - wrong at the last position, mean over examples",
        "steps": STEPS,
        "edge_columns": ["source", "destination", "role", "eap", "eap_ig", "eap_ig_from_zero"],
        "head_columns": ["head", "eap", "eap_ig"],
        "inputs": data,
        "families": {family: reference(family, data) for family in CONFIGS},
    }
    text = re.sub(r"\[[^][{}]*\]", lambda row: " ".join(row[0].split()), json.dumps(result, indent=1))
    (Path(__file__).parent / "eap_reference.json").write_text(text + "\n")


if __name__ == "__main__":
    main()
