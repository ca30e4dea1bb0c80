"""The settings of a mask: values and their help. The rules between them are in `checks.py`.

Nothing heavy is imported here, so that the command line can answer for a wrong setting before torch is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from ..common.setting import setting
from ..forecasters import DEFAULT as DEFAULT_FORECASTER
from ..policies.catalogue import POLICIES, Parameter

GROUPS = {
    "what most people change": (
        "budget granularity policy policy_params scorer probe_examples probe_every remask_every".split()
    ),
    "which components": "target target_params candidates head_share mlp_block history mask_seed".split(),
    "forecasts": "forecaster forecaster_params gate horizon".split(),
    "scores": "probe_batch_size calibrate record".split(),
    "memory and time": "limits budget_schedule restart_every".split(),
    "what is kept": "replay_share retained_source".split(),
}
"""Headings under which settings are listed, and the settings under each."""
RETAINED_SOURCES = ("data", "base")
LIMITS = {
    "share": Parameter(float, None, "operations, as a share of a step of full fine-tuning", most=1),
    "seconds": Parameter(float, None, "wall time of a step's passes on the slowest rank"),
    "gib": Parameter(float, None, "device memory at the peak of a step, 2^30 bytes per process"),
    "cost_aware": Parameter(float, None, "share of a mask's score that may be given up for cheaper steps", most=0.99),
    "scoring": Parameter(float, 0.06, "share of the run's time that scoring and choosing may take", most=1),
}
"""What a train step and scoring may cost: the keys of the setting `limits`."""
STEP_LIMITS = ("share", "seconds", "gib")
"""Those that a mask keeps or is refused."""


@dataclass
class MaskSettings:
    """What a masked run adds to the settings of TRL's trainer. Steps are optimizer steps everywhere."""

    budget: float = setting(
        0.05, "Trainable parameters as a share of ALL model parameters, embeddings and head included."
    )
    granularity: str = setting(
        "components",
        "What a mask is made of. components: whole heads and MLP blocks; vectors: their single rows and "
        "columns; rows: rows of every matrix (output features); weights: single weights.",
    )
    policy: str = setting("foresight", f"What chooses the mask: {', '.join(POLICIES)}.")
    policy_params: dict[str, Any] | str | None = setting(
        None,
        "Settings of the policy, as a mapping, or one by one as --policy_params.NAME VALUE. `foresight train "
        "--settings policy_params` lists those of every policy.",
    )
    scorer: str = setting(
        "auto", "What 'critical' means. auto: attribution if there are contrast pairs, else step_attribution."
    )
    probe_examples: int | None = setting(
        None,
        "Contrast pairs or training examples in a snapshot of the scores, other ones each time; by default as many as "
        "limits.scoring pays for, at most 64.",
    )
    probe_every: int | None = setting(
        None, "Steps between snapshots of the scores; by default at least 10, and as many as limits.scoring asks for."
    )
    remask_every: int | None = setting(
        None,
        "Steps between re-masks; 0 keeps the first mask (after the watch) to the end of the run. By default every "
        "second snapshot, or 20 steps for masks of single weights.",
    )
    target: str = setting(
        "circuit",
        "What components are ranked by, and what a forecast is of: circuit (the scores of `scorer` at the horizon), "
        "utility, damage, movement, a registered name, or module:Class.",
    )
    target_params: dict[str, Any] | str | None = setting(
        None, "Parameters of the target, as a mapping, or one by one as --target_params.NAME VALUE."
    )
    candidates: dict[str, Any] | str | None = setting(
        None,
        "What masks may take, in PEFT's words; by default all. target_modules: names or ends of names of modules, or a "
        "regular expression; exclude_modules: likewise; layers_to_transform: a layer or a list of layers. A component "
        "is a candidate if all its modules are allowed (a head: q_proj and o_proj, without GQA k_proj and v_proj too). "
        "Policy 'full' trains all candidates.",
    )
    head_share: float | str | None = setting(
        None,
        "Share of the budget's vectors that goes to heads (KV groups): a number in [0, 1], or prior, the share that "
        "the mask of policy 'prior' has. By default all kinds are ranked in one list.",
    )
    mlp_block: int | None = setting(
        None, "Neurons per MLP block; by default about as many vectors as an attention head has."
    )
    history: list[str] | None = setting(
        None,
        "Trajectory folders of past runs: what policies 'prior' and 'foresight', its forecaster, and head_share "
        "'prior' learn from.",
    )
    mask_seed: int | None = setting(None, "Seed of random masks; by default `seed`.")
    forecaster: str = setting(
        DEFAULT_FORECASTER, "Forecaster of policy 'foresight': a registered name, or module:Class."
    )
    forecaster_params: dict[str, Any] | str | None = setting(
        None, "Parameters of the forecaster, as a mapping, or one by one as --forecaster_params.NAME VALUE."
    )
    gate: bool = setting(
        True,
        "Forecast only where earlier forecasts, in this run and in past ones, had more of the circuit than the best "
        "simple mask; otherwise hold that mask. false believes every forecast.",
    )
    horizon: int | None = setting(None, "Steps ahead that are forecast; by default until the next re-mask.")
    probe_batch_size: int | None = setting(
        None, "Examples scored in one pass; by default as many as are trained on in one."
    )
    calibrate: bool = setting(
        True,
        "Correct attribution by patching a few components exactly, as far as limits.scoring pays for it (contrast "
        "pairs only).",
    )
    record: bool = setting(
        False, "Take every snapshot even if the policy does not need it, to have a trajectory of the run."
    )
    limits: dict[str, Any] | str | None = setting(
        None,
        "The most that a train step may cost, for policies that rank components: of the masks within it, the one with "
        "most score is taken. share: of full fine-tuning's operations, in (0, 1]; or seconds: of wall time for an "
        "optimizer step's forward and backward passes on the slowest rank, from passes timed when the run begins; "
        "gib: of device memory (2^30 bytes) at the peak of a step, per process. cost_aware: share of the mask's score "
        "that may be given up for cheaper steps: the mask is taken from the highest layers that keep the rest. "
        "scoring: share of the run's time that scoring and choosing may take, which sets how much is scored; 0.06 by "
        "default.",
    )
    budget_schedule: list[Any] | str | None = setting(
        None,
        "The budget over time. constant (default); front-loaded: thirds of the run with 2.1, 0.75 and 0.15 times the "
        "budget; grown: the same backwards; or stages [share of the run, relative size] such as [[0, 14], [0.5, 1]]. "
        "Its mean over the run is the budget.",
    )
    restart_every: int = setting(0, "Steps between restarts of the Adam moments of the whole mask; 0 for no restarts.")
    replay_share: float = setting(
        0.0, "Share of the rows of every batch that are retained rows instead, with any policy."
    )
    retained_source: dict[str, Any] | str | None = setting(
        "data",
        "What is to be kept, for target 'damage' and replay. data: the retained dataset; base: text that the model "
        "writes before training, continuing prompts of the retained dataset if there is one; or the latter with its "
        'size, as {"examples": 256, "tokens": 64}: rows, and at most so many new tokens in each. Damage is measured '
        "on the first probe_examples rows.",
    )


NAMES = tuple(setting.name for setting in fields(MaskSettings))
"""All of them, in the order in which they are listed."""

REMOVED: dict[str, str] = {
    **{
        name: f"it is `policy_params.{name}` now"
        for name in "cutoff mask_schedule movement_from oracle_trajectory redraw "
        "scout_learning_rate scout_share watch watch_steps".split()
    },
    **{
        name: "policy 'foresight' over weights draws them by row and column now; leave it out"
        for name in ("movement_memory", "movement_rule")
    },
    **{f"step_{name}": f"it is `limits.{name}` now" for name in ("share", "seconds", "gib")},
    "cost_aware": "it is `limits.cost_aware` now",
    "damage_weight": "it is `target_params.damage_weight` of target 'damage' now",
    "damage_forecaster": "use policy 'foresight' with target 'damage', gate false and this forecaster",
    "retained_examples": 'use `retained_source: {"examples": N}`',
    "retained_tokens": 'use `retained_source: {"tokens": N}`',
    "ema_decay": "policy 'ema' was removed; use policy 'foresight' with forecaster 'smoothing' and gate false",
    "entry_moments": "vectors that enter a mask start with fresh moments; leave it out",
    "moments": "use `restart_every` to restart Adam's moments",
    "in_place": "it saved no time; leave it out",
    "outcomes": "policy 'value' was removed; use 'prior'",
    "trial_steps": "head_share 'trials' was removed; use a number or 'prior'",
}
"""Settings of earlier versions, and what there is in their place."""
