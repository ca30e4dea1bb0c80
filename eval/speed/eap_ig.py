"""Scoring of nodes by EAP and EAP-IG next to a plain forward and backward pass, in an environment that has them.

EAP-IG (https://github.com/hannamw/EAP-IG) runs on TransformerLens below version 3, and so beside older libraries than
foresight does; give it an environment of its own, and the figures to the other command:

    python -m venv eap && . eap/bin/activate
    pip install 'torch<2.14' 'transformer-lens>=2.15,<3' 'pyarrow<21' && git clone https://github.com/hannamw/EAP-IG
    PYTHONPATH=EAP-IG/src python -m eval.speed.eap_ig --json eap_ig.json
    python -m eval.speed --eap-ig eap_ig.json                        # in foresight's environment

The random Llama is the one that the other scorers are measured on, and its weights are given to TransformerLens's model
class. EAP-IG's functions get token ids in place of text, and the CPU where they say "cuda".
"""

from __future__ import annotations

import argparse
import contextlib
import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .clock import Times, alternate, ratios
from .shapes import QUICK, Shape

STEPS = 5
"""Points of the integrated gradients, as our `attribution_ig` takes."""
ROUNDS = 3
"""Few, as a pass takes a minute."""
PLAIN, HOOKED = "forward and backward", "forward and backward of TransformerLens"


def hooked(model: torch.nn.Module, shape: Shape) -> Any:
    """The TransformerLens model with a Llama's weights, nothing folded or centred, hooks of EAP-IG off."""
    from transformer_lens import HookedTransformer, HookedTransformerConfig
    from transformer_lens.pretrained.weight_conversions import convert_llama_weights

    head = shape.width // shape.heads
    config = HookedTransformerConfig(
        n_layers=shape.layers, d_model=shape.width, n_ctx=max(64, shape.length), d_head=head, n_heads=shape.heads,
        n_key_value_heads=shape.kv_heads if shape.kv_heads != shape.heads else None, d_mlp=shape.mlp,
        d_vocab=shape.vocabulary, device="cpu", act_fn="silu", normalization_type="RMS", eps=model.config.rms_norm_eps,
        gated_mlp=True, final_rms=True, positional_embedding_type="rotary", rotary_dim=head,
        rotary_adjacent_pairs=False,
    )  # fmt: skip
    made = HookedTransformer(config)
    plain = dict(fold_ln=False, center_writing_weights=False, center_unembed=False, fold_value_biases=False)
    made.load_and_process_state_dict(convert_llama_weights(model, config), **plain)
    return made


def works(shape: Shape) -> dict[str, Callable[[], Any]]:
    """Named "eap" and "eap_ig" of contrast pairs as `scoring.contrast` has them, and what they are compared with."""
    with contextlib.suppress(ModuleNotFoundError):
        import pygraphviz  # noqa: F401
    sys.modules.setdefault("pygraphviz", type(sys)("pygraphviz"))  # for drawing only
    from eap import attribute_node
    from eap.graph import Graph

    attribute_node.tokenize_plus = lambda _, ids: (ids, torch.ones_like(ids), torch.full((len(ids),), length), length)
    clean, length = shape.batch(), shape.length
    corrupted = clean.clone()
    corrupted[:, 0] = clean[:, 0] % 7 + 3
    model = shape.model()
    lens = hooked(model, shape)
    graph, data = Graph.from_model(lens), [(clean, corrupted, None)]

    def metric(logits: Tensor, clean_logits: Tensor, lengths: Tensor, label: None) -> Tensor:
        return (logits[:, -1, 6] - logits[:, -1, 5]).mean()

    def score(by: Callable, **more: Any) -> Tensor:
        lens.set_use_attn_result(True)
        lens.set_use_hook_mlp_in(True)
        with _zeros_on_cpu():
            found = by(lens, graph, data, metric, quiet=True, **more)
        lens.zero_grad()
        return found

    def plain_hooked() -> None:
        lens.set_use_attn_result(False)
        lens.set_use_hook_mlp_in(False)
        lens(clean, return_type="loss").backward()
        lens.zero_grad()

    def plain() -> None:
        model(input_ids=clean, labels=clean).loss.backward()
        model.zero_grad()

    return {
        PLAIN: plain,
        HOOKED: plain_hooked,
        "eap": lambda: score(attribute_node.get_scores_eap),
        "eap_ig": lambda: score(attribute_node.get_scores_eap_ig, steps=STEPS),
    }


@contextlib.contextmanager
def _zeros_on_cpu() -> Iterator[None]:
    zeros = torch.zeros
    torch.zeros = lambda *args, **more: zeros(*args, **{**more, "device": "cpu"})
    try:
        yield
    finally:
        torch.zeros = zeros


def figures(times: dict[str, Times]) -> dict[str, Any]:
    """By scorer: its ratio to the plain pass of the Hugging Face model as the other scorers have it, and to that of
    TransformerLens's.
    """
    found = {}
    for name in ("eap", "eap_ig"):
        over, within = ratios(times[name], times[PLAIN]), ratios(times[name], times[HOOKED])
        found[name] = {"over_train_step": over["cpu"]["median"], **over, "over_transformer_lens": within["cpu"]}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m eval.speed.eap_ig", description=__doc__.split("\n")[0])
    parser.add_argument("--json", type=Path, metavar="FILE", required=True, help="write the figures there")
    parser.add_argument("--quick", action="store_true", help="on the smaller model of a quick measurement")
    args = parser.parse_args()
    torch.set_num_threads(1)
    shape = QUICK if args.quick else Shape()
    found = figures(alternate(works(shape), ROUNDS))
    packages = ("torch", "transformer-lens", "transformers")
    environment = {"python": platform.python_version(), **{name: version(name) for name in packages}}
    args.json.parent.mkdir(parents=True, exist_ok=True)
    result = {"shape": asdict(shape), "rounds": ROUNDS, "steps": STEPS, "environment": environment}
    args.json.write_text(json.dumps({**result, "scoring": found}, indent=1) + "\n")
    for name, one in found.items():
        within = one["over_transformer_lens"]["median"]
        print(f"{name}: {one['over_train_step']:.1f} x {PLAIN}, {within:.1f} x {HOOKED}")


if __name__ == "__main__":
    main()
