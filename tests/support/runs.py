"""Small masked runs, and what a test looks at in them."""

import random

import numpy as np
import torch
from safetensors.torch import load_file
from transformers import TrainerCallback

from foresight.policies.catalogue import PARAMETERS
from foresight.training.checks import only_taken
from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from support.tiny import pairs, sentences, tiny, tiny_tokenizer

COMMON = dict(
    use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none", disable_tqdm=True, max_steps=12,
    per_device_train_batch_size=4, learning_rate=1e-2, logging_steps=4, save_strategy="no", seed=3,
)  # fmt: skip
MASKED = dict(COMMON, budget=0.2, probe_every=2, remask_every=3, probe_examples=6, watch_steps=3)


def nested(settings):
    """Settings in which parameters of policies stand by name, as a recipe has them: in `policy_params`."""
    params = {name: value for name, value in settings.items() if name in PARAMETERS}
    rest = {name: value for name, value in settings.items() if name not in PARAMETERS}
    return rest | ({"policy_params": params} if params else {})


def config(folder, shared=MASKED, **settings):
    """A config of shared settings, where the policy takes them, and of `settings`, which have to fit; parameters of
    policies may stand among either by name, and count where the policy has them.
    """
    chosen, given = nested(settings), nested(shared)
    params = {**given.pop("policy_params", {}), **(chosen.pop("policy_params", None) or {})}
    who = {name: chosen[name] for name in ("policy", "granularity", "record") if name in chosen}
    known = only_taken({**given, **who, "policy_params": params})
    return ForesightConfig(output_dir=str(folder), **{**known, **chosen})


def trainer(folder, model=None, contrast=True, train_dataset=None, retained=None, eval_dataset=None, **settings):
    return ForesightTrainer(
        model=model if model is not None else tiny(),
        args=config(folder, **settings),
        train_dataset=sentences() if train_dataset is None else train_dataset,
        eval_dataset=eval_dataset,
        contrast_dataset=pairs() if contrast else None,
        retained_dataset=retained,
        processing_class=tiny_tokenizer(),
    )


def run(folder, resume=None, **settings):
    result = trainer(folder, **settings)
    result.train(resume_from_checkpoint=resume)
    return result


def delta(folder):
    return load_file(folder / "delta" / "delta.safetensors")


def same(a, b):
    return a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)


class Stop(TrainerCallback):
    """Breaks the run off after a step, as a crash would."""

    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise RuntimeError("power cut")


def state_of(held):
    """Everything that scouting might have touched, as copies."""
    names = {name: (p.data_ptr(), p.dtype, p.requires_grad, p.clone()) for name, p in held.model.named_parameters()
             if "foresight_bank" not in name}  # fmt: skip
    python, (_, numpy, *rest) = random.getstate(), np.random.get_state()
    drawn = (python, numpy.tolist(), rest, torch.get_rng_state().tolist())
    parts = [dict(vars(part)) for part in (held.model, held, held.args)]
    run, bank = dict(vars(held.run), scouting=None), held.bank
    return names, drawn, *parts, run, bank.vectors.shape, len(bank.ids), len(bank.ledger)


def unchanged(before, held):
    after = state_of(held)
    (weights, *rest), (weights_now, *rest_now) = before, after
    for name, (where, dtype, grad, value) in weights.items():
        now = weights_now[name]
        assert (where, dtype, grad) == now[:3] and torch.equal(value, now[3]), name
    for one, two in zip(rest, rest_now, strict=True):
        if isinstance(one, dict):
            assert one.keys() == two.keys() and all(one[key] is two[key] or one[key] == two[key] for key in one)
        else:
            assert one == two
    assert held.bank.vectors.grad is None and not held.bank.vectors.any()
