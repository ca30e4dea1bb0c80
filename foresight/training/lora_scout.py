"""A scout by adapter: a short LoRA run on the same data before the real one, for the rows and columns it will move.

The adapter is taken off again: the model's weights are never written to.
"""

from __future__ import annotations

from time import perf_counter
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import PrinterCallback, Trainer

from ..common.errors import NonFiniteError
from ..forecasters.single_weights.margins import Map, Margins
from ..policies.scouted import Scouting
from ..policies.single_weights.foresight import WeightForesight
from .masked import MaskedTrainer
from .scout import attributes_kept, random_state_kept, silent

RANK, RATE = 8, 1e-3
"""Of the adapter; the rate is the one at which LoRA learns most on SmolLM2-135M and still keeps what the base knew."""


def scout(masked: MaskedTrainer) -> None:
    """Tell the run's policy what `lora_steps` steps of LoRA have moved, and set `run.scouting`.

    Model, bank and random state are as they were afterwards.

    Raises:
        NonFiniteError: the scout diverged.
        MaskLeakError: a weight of the model is not what it was, to the bit.
    """
    run = masked.run
    policy, model = run.policy, run.model
    assert isinstance(policy, WeightForesight) and policy.lora_steps is not None
    began = perf_counter()
    args = silent(run.args, RATE, max_steps=policy.lora_steps, remove_unused_columns=False)
    modules = [target.module for target in run.numbers.targets]
    trained = {parameter: parameter.requires_grad for parameter in model.parameters()}
    with random_state_kept(), attributes_kept(model):
        adapted = get_peft_model(model, LoraConfig(r=RANK, lora_alpha=RANK, target_modules=modules))
        try:
            rows, collator = masked.train_dataset, masked.data_collator
            trainer = Trainer(model=adapted, args=args, train_dataset=rows, data_collator=collator)
            trainer.remove_callback(PrinterCallback)
            trainer.train()
            held = sum(3 * p.nbytes for p in adapted.parameters() if p.requires_grad)
            found = {module: Margins.of(_change(model.get_submodule(module))) for module in modules}
        finally:
            adapted.unload()
            for parameter, was in trained.items():
                parameter.requires_grad_(was)
    if not all(torch.isfinite(one.rows).all() for one in found.values()):
        raise NonFiniteError("the scout's adapter diverged; leave policy_params.lora_steps away")
    run.bank.base.verify()
    policy.scouted(Map(found))
    examples = policy.lora_steps * args.train_batch_size * args.gradient_accumulation_steps
    run.scouting = Scouting(examples, policy.lora_steps, RATE, perf_counter() - began, 0.0, held)


def _change(layer: Any) -> torch.Tensor:
    """What the adapter adds to a layer's stored weight, float32."""
    return layer.get_delta_weight(layer.active_adapter[0]).detach().float().cpu()
