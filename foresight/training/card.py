"""The model card of a run: what was trained on what, what was measured, and how to load it."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCardData

from .run import Run

NAME = "README.md"


def card(run: Run, trained_on: str, state: Any) -> str:
    """The card as Markdown with the Hub's header; `trained_on` is the data in words, `state` the trainer's."""
    args, base, n = run.args, run.base_info(), run.n_vectors * run.numbers.d_model
    name = base["model"] or "a model without a name"
    given: Any = args.policy_params or {}
    params = f" ({', '.join(f'{key}: {value}' for key, value in given.items())})" if given else ""
    masks = len(run.schedule.entries)
    rows = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
    rate = run.optimizer.param_groups[0].get("initial_lr", args.learning_rate)
    hub = base["model"] if base["model"] and not Path(base["model"]).exists() else None
    header = ModelCardData(
        base_model=hub, library_name="transformers", pipeline_tag="text-generation", tags=["foresight", "sft"]
    )
    total = run.numbers.model_parameters
    facts = {
        "base": f"{name}, {base['dtype']}, weights `{base['base_hash']}`",
        "data": trained_on,
        "trained": f"{n:,} of {total:,} parameters at a time ({n / total:.3%}), {args.granularity}",
        "chosen by": f"policy `{args.policy}`{params}: {masks} {'masks' if masks != 1 else 'mask'} over the run",
        "steps": f"{state.global_step:,} of {rows} rows, learning rate {rate:.3g} ({args.lr_scheduler_type.value})",
        **_measured(state.log_history),
        "made with": f"foresight {metadata.version('foresight-sft')}",
    }
    table = "".join(f"| {what} | {value} |\n" for what, value in facts.items())
    return f"""---
{header.to_yaml()}
---

# {run.output.name}

{name}, fine-tuned. Outside the masks no weight has changed.

| | |
|---|---|
{table}
## Load

The folder of the run holds the changed weights alone (`delta`). `foresight export RUN --to merged --out DIR` writes a
whole model, which plain transformers loads:

```python
from transformers import AutoModelForCausalLM

model = AutoModelForCausalLM.from_pretrained("DIR")
```

The delta alone goes onto a copy of the base:

```python
from foresight import apply_delta

model = apply_delta(AutoModelForCausalLM.from_pretrained({name!r}, dtype={base["dtype"]!r}), "RUN/delta")
```
"""


def _measured(log: list[dict[str, Any]]) -> dict[str, str]:
    """The last training loss, and the last of everything that was evaluated."""
    found = {name: entry[name] for entry in log for name in entry if name == "loss" or name.startswith("eval_")}
    timing = ("_runtime", "_per_second", "_num_tokens")
    shown = {name: value for name, value in found.items() if not name.endswith(timing)}
    return {name.replace("_", " "): f"{value:.4g}" for name, value in shown.items()} or {"measured": "nothing"}
