"""`ForesightTrainer`: TRL's SFTTrainer with a bank for its trainable state and a policy that decides the mask."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers.trainer_utils import rotate_checkpoints
from trl import SFTTrainer

from ..common.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from ..forecasters import Forecaster, make_forecaster
from ..forecasters.registry import experienced
from ..masks.budget_schedule import BudgetSchedule
from ..masks.masks import MaskSchedule
from ..masks.selection import budget_vectors, circuit_size
from ..model.granularity import table_of
from ..model.numbering import Numbering
from ..policies import Policy, make_policy
from ..policies.scouted import Scouted
from ..policies.single_weights.weights import WeightPolicy
from ..policies.targets.outcomes import read_outcomes
from ..scoring.probes import Probe, TextProbe
from ..scoring.virtual_moves import BENEFIT, DAMAGE
from ..trajectory.skill_log import SkillLog
from ..trajectory.trajectory import Trajectory
from . import checkpoint, run_state
from .config import ForesightConfig
from .delta import write_delta
from .finite import FiniteLoss
from .granularity import bank_of, numbers_of, policy_type, schedule_of, weight_policy
from .limits import StepLimits
from .moments import KeptMoments
from .ranking import past_run, target_of
from .remask import RemaskCallback
from .replay import ReplaySampler, with_retained
from .retention import Retained, retained_rows, virtual_moves
from .scout import Cost, refuse_scouting, refuse_trained, scout
from .sharding import optimizer_class, placement_of, refuse_dtype, refuse_world
from .trials import Trials, share_now, try_shares
from .watcher import Watcher, probe_of, scorer_name, scorer_of

if TYPE_CHECKING:
    from datasets import Dataset
    from transformers import PreTrainedModel

_ADAMW = ("adamw_torch", "adamw_torch_fused")


class ForesightTrainer(FiniteLoss, SFTTrainer):
    """Fine-tunes a causal LM through a bank of fixed size whose mask a policy decides.

    Args:
        model: a path or hub name, or a loaded Hugging Face causal LM. It is frozen; the bank is attached to it.
        args: a `ForesightConfig`.
        train_dataset: as SFTTrainer takes it (text, messages, prompt/completion, or tokenized).
        contrast_dataset: `datasets` table with columns clean, corrupted, answer, wrong_answer; needed by
            attribution-type scorers.
        forecaster: an object with the `Forecaster` protocol instead of `args.forecaster`.
        retained_dataset: what must not be forgotten, as SFTTrainer takes it: for policy `damage` and replay. With
            `retained_source: base` its prompts are continued by the model before training.
        **kwargs: everything else that SFTTrainer takes, except peft_config, optimizers and quantization.

    Attributes:
        table: `ComponentTable`; bank: `Bank`; policy: the policy; schedule: `MaskSchedule` of this run; with
            granularity weights, bank and schedule are a `WeightBank` and a `WeightSchedule`;
        trajectory: `Trajectory` of this run, or None while nothing was scored;
        target: what components are ranked by; history: the recorded runs that the settings name;
        limits: what masks may cost by the settings;
        scouting: what the scouting run before this one cost, or None without one or in a resumed run;
        trials: the same of trials of head shares, and what they found.

    Raises:
        ConfigError: settings that contradict each other or the model; raised before any work is done.
        DataError: an empty dataset, or contrast pairs that cannot be used.
    """

    def __init__(
        self,
        model: str | PreTrainedModel,
        args: ForesightConfig | None = None,
        train_dataset: Dataset | None = None,
        contrast_dataset: Dataset | None = None,
        forecaster: Forecaster | None = None,
        retained_dataset: Dataset | None = None,
        **kwargs: Any,
    ):
        args = args or ForesightConfig("foresight-run")
        _refuse(args, kwargs)
        self.target = target_of(args)
        self.target.check(contrast_dataset is not None, retained_dataset is not None or args.retained_source != "data")
        if train_dataset is not None and hasattr(train_dataset, "__len__") and len(train_dataset) == 0:
            raise DataError("the training dataset is empty; check its path, split and filters")
        super().__init__(model=model, args=args, train_dataset=train_dataset, **kwargs)
        refuse_dtype(self.model, args)
        self.contrast_dataset = contrast_dataset
        self.mask_seed = args.seed if args.mask_seed is None else args.mask_seed
        self.table = table_of(self.model, args.granularity, args.mlp_block)
        numbers = numbers_of(self.model, self.table, args)
        self.limits = StepLimits(self.model, self.table, args)
        measures = policy_type(args).measures or self.target.measures
        scorer = BENEFIT if measures else scorer_name(args, contrast_dataset, self.target.scorer)
        paths = (args.history or []) if args.granularity != "weights" else []
        self.history = [past_run(path, scorer, measures, self.target) for path in paths]
        self.policy = self._policy(numbers, scorer, forecaster)
        self.policy.measures = measures
        if isinstance(self.policy, Scouted):
            refuse_scouting(args, self.train_dataset)
        if args.head_share == "trials":
            refuse_trained(args, self.train_dataset, "head_share 'trials' trains")
        self.budget_schedule = BudgetSchedule.of(args.budget_schedule)
        everything = args.policy == "full"
        self.n_vectors = numbers.n_vectors if everything else budget_vectors(numbers, args.budget)
        placement = placement_of(self.model, args)
        self.n_vectors = placement.whole_vectors(self.n_vectors, numbers.d_model)
        self.bank = bank_of(self.model, numbers, self.n_vectors, placement, args.in_place)
        self.kept_moments = KeptMoments(numbers.d_model) if args.entry_moments == "kept" else None
        peak = self.n_vectors
        if not self.budget_schedule.constant:
            peak = self.budget_schedule.mean_and_peak(numbers, args.budget)[1]  # raises what a later stage would
        self.limits.check(peak)
        self.retained: Retained | None = retained_rows(self, retained_dataset)
        self.schedule = schedule_of(args)
        self.skill_log = SkillLog(circuit_size(self.table, self.n_vectors))
        self.watcher: Watcher | None = None
        self.scouting: Cost | None = None
        self.trials: Trials | None = None
        if self.policy.needs_scores or args.record or isinstance(self.policy, Scouted):
            measure = (
                virtual_moves(self)
                if self.policy.measures
                else scorer_of(scorer, self.bank, **self.target.scorer_params)
            )
            probe = probe_of(args, measure, contrast_dataset, self.train_dataset, self._tokenizer)
            self.watcher = Watcher(self.bank, measure, probe)
            if DAMAGE in self.policy.measures and self.retained is not None:
                self.watcher.seconds += self.retained.seconds
        self.probe: Probe | None = None
        if isinstance(self.policy, WeightPolicy) and self.policy.needs_probe:
            self.probe = TextProbe.from_dataset(self.train_dataset, args.probe_batch_size, args.probe_examples)
        self.remasking = RemaskCallback(self)
        self.add_callback(self.remasking)
        if args.head_share == "prior":
            share_now(self, self.n_vectors)  # raises what a later stage would

    # -- parts ------------------------------------------------------------------------------------------------------

    def _policy(self, numbers: Numbering, scorer: str, forecaster: Forecaster | None) -> Policy:
        args: ForesightConfig = self.args
        if args.granularity == "weights":
            return weight_policy(args, self.model, numbers, scorer)
        path, measures = args.oracle_trajectory, policy_type(args).measures or self.target.measures
        oracle = past_run(path, scorer, measures, self.target) if path else None
        return make_policy(
            args.policy,
            redraw=args.redraw,
            ema_decay=args.ema_decay,
            history=self.history,
            gate=args.gate,
            target=self.target,
            oracle_trajectory=oracle.series if oracle else None,
            oracle_damage=oracle.damage if oracle else None,
            outcomes=read_outcomes(args.outcomes) if args.outcomes else None,
            mask_schedule=MaskSchedule.read(args.mask_schedule, self.table) if args.mask_schedule else None,
            forecaster=forecaster or experienced(args.forecaster, **_mapping(args.forecaster_params)),
            damage_weight=args.damage_weight,
            damage_forecaster=make_forecaster(args.damage_forecaster) if args.damage_forecaster else None,
        )

    @property
    def trajectory(self) -> Trajectory | None:
        """Snapshots of this run; None before `train` and for policies that need no scores."""
        return getattr(self.watcher, "trajectory", None)

    def vectors_at(self, step: int, total_steps: int) -> int:
        """Rows of the bank after `step` of `total_steps` steps, as the budget schedule has it."""
        if self.budget_schedule.constant:
            return self.n_vectors
        return self.budget_schedule.vectors(self.bank.table, self.args.budget, step, total_steps)

    @property
    def output(self) -> Path:
        return Path(self.args.output_dir)

    def create_optimizer(self, model=None) -> torch.optim.Optimizer:
        """AdamW over the bank, with an age per vector; learning rate, betas, epsilon and decay from the config."""
        args: ForesightConfig = self.args
        if self.optimizer is None:
            self.bank_optimizer = optimizer_class(args)(
                self.bank.vectors,
                args.learning_rate,
                (args.adam_beta1, args.adam_beta2),
                args.adam_epsilon,
                args.weight_decay,
            )
            self.optimizer: torch.optim.Optimizer = self.bank_optimizer
        return self.optimizer

    def _get_dataloader(self, dataset, *args, is_training: bool = False, **kwargs):
        # With replay, training batches come from training rows and retained rows (see foresight.training.replay).
        if is_training and self.args.replay_share:
            assert self.retained is not None
            dataset = with_retained(dataset, self.retained.rows)
        return super()._get_dataloader(dataset, *args, is_training=is_training, **kwargs)

    def _get_train_sampler(self, train_dataset: Dataset | None = None):
        if not self.args.replay_share:
            return super()._get_train_sampler(train_dataset)
        assert self.retained is not None and train_dataset is not None
        args, retained = self.args, len(self.retained.rows)
        seed = args.seed if args.data_seed is None else args.data_seed
        return ReplaySampler(len(train_dataset) - retained, retained, args.replay_share, seed)

    # -- training ---------------------------------------------------------------------------------------------------

    def train(self, resume_from_checkpoint: str | bool | None = None, **kwargs: Any):
        """Train, from the start or from a checkpoint, and write the delta to `output_dir/delta` at the end.

        Args:
            resume_from_checkpoint: a checkpoint folder, or True for the last complete one of `output_dir`.

        Raises:
            CheckpointError: nothing complete to resume from, or a checkpoint of another model.
            ConfigError: a fresh run into a folder that holds a run.
            NonFiniteError: the loss or its gradient became NaN or infinite; the last checkpoint is untouched.
            MaskLeakError: something outside the mask changed, or nothing inside it did.
        """
        if resume_from_checkpoint is True:
            last = checkpoint.last_complete(self.output)
            if last is None:
                raise CheckpointError(f"{self.output} holds no complete checkpoint; start afresh without resuming")
            resume_from_checkpoint = str(last)
        if not resume_from_checkpoint:
            self._start_afresh()
        result = super().train(resume_from_checkpoint or None, **kwargs)
        self.save_delta(self.output / "delta")
        return result

    def _start_afresh(self) -> None:
        used = (self.output / run_state.TRAJECTORY).exists() or any(self.output.glob("checkpoint-*"))
        self.accelerator.wait_for_everyone()  # every rank has looked before one of them writes
        if used:
            raise ConfigError(
                f"{self.output} already holds a run; continue it with --resume (resume_from_checkpoint=True), or name "
                "another output_dir"
            )
        if self.args.should_save:
            self.processing_class.save_pretrained(self.output / "tokenizer")
        if isinstance(self.policy, Scouted):
            self.policy.scouted, self.scouting = scout(self)
        if self.args.head_share == "trials":
            self.trials = try_shares(self)
            self.remasking.tried_share = self.trials.head_share
        if self.watcher is not None:
            args = self.args
            info = {name: getattr(args, name) for name in ("policy", "seed", "learning_rate")}
            info["model"] = self._model_name
            if self.target.scorer_params:
                info["scorer_params"] = dict(self.target.scorer_params)
            if DAMAGE in self.policy.measures:
                info |= {"retained_source": args.retained_source, "damage_weight": args.damage_weight}
            if self.scouting is not None:
                info["scouting"] = asdict(self.scouting)
            if self.trials is not None:
                info["trials"] = asdict(self.trials)
            self.watcher.trajectory = Trajectory.create(
                self.output / run_state.TRAJECTORY if self.args.should_save else None,
                self.table,
                model_hash=self.bank.base.hash,
                data_hash=self.watcher.probe.hash,
                info=info,
            )

    def check_gradient(self) -> None:
        """Raise NonFiniteError if the bank's gradient is not finite; called before every optimizer step.

        DeepSpeed keeps gradients to itself: there, broken values are found before a checkpoint is written.
        """
        if self.bank.vectors.grad is not None and not torch.isfinite(self.bank.vectors.grad).all():
            raise NonFiniteError(self.diverged("a gradient is NaN or infinite"))

    def diverged(self, what: str) -> str:
        # Of `FiniteLoss`, and of `check_gradient`.
        last = checkpoint.last_complete(self.output)
        return (
            f"{what} at step {self.state.global_step + 1}, learning rate {self.optimizer.param_groups[0]['lr']:.3g}; "
            f"no step was taken. Last good checkpoint: {last or 'none'}. Lower learning_rate or max_grad_norm, or "
            "look for broken rows in the data, and resume"
        )

    def note(self, numbers: dict[str, float]) -> None:
        """Log numbers now, without making the training loop believe that its own turn to log is over."""
        due = self.control.should_log
        self.log(numbers)
        self.control.should_log = due

    # -- files ------------------------------------------------------------------------------------------------------

    @property
    def _model_name(self) -> str:
        return self.model.config._name_or_path

    def base_info(self) -> dict[str, Any]:
        """What a delta has to say of the model that it changes, and the step it was made at."""
        dtype = str(self.bank.base.dtype).removeprefix("torch.")
        base_hash = self.bank.base.hash
        return {"model": self._model_name, "base_hash": base_hash, "dtype": dtype, "step": self.state.global_step}

    def save_schedule(self) -> None:
        """Write the masks so far to `output_dir/schedule.json`, which policy `replay` reads."""
        if not self.args.should_save:
            return
        self.schedule.write(self.output / "schedule.json", self.bank.table, self.bank.mask)

    def save_delta(self, folder: str | Path) -> None:
        """Write everything this run has changed as a delta (see foresight.training.delta)."""
        ids, values = self.bank.changed()
        if not self.args.should_save:
            return
        write_delta(folder, self.bank.table, ids, values, self.base_info())

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Save a merged model that plain transformers loads; inside a checkpoint, the bank and ledger instead."""
        folder = Path(output_dir or self.args.output_dir)
        if _internal_call:
            run_state.save(self, folder)
            return
        merged = self.bank.merged_state_dict()
        if self.args.should_save:
            self.model.save_pretrained(folder, state_dict=merged)
            self.processing_class.save_pretrained(folder)

    def _save_checkpoint(self, model, trial) -> None:
        # Older checkpoints go only after this one is complete, so the limit is applied here instead of by the parent.
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()  # the random states of all ranks are in the folder
        if self.args.should_save:
            checkpoint.seal(self.output / f"checkpoint-{self.state.global_step}")
            rotate_checkpoints(output_dir=str(self.output), save_total_limit=limit, use_mtime=False)

    def _prepare_for_training(self, max_steps, train_dataloader, resume_from_checkpoint):
        # The parent would look for whole-model or DeepSpeed checkpoints; a run's own state is the same for all.
        prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        if self.args.gradient_checkpointing:
            # With checkpointing, transformers makes the embeddings' output need a gradient, which non-reentrant
            # checkpointing does without: every backward pass would go below the mask, down to the embeddings.
            self.model.disable_input_require_grads()
        if self.args.deepspeed:
            if self.model_wrapped.optimizer.optimizer is not self.bank_optimizer:
                raise ConfigError("DeepSpeed has replaced the bank's optimizer; leave the choice of it to foresight")
            self.bank.place(placement_of(self.model, self.args, self.model_wrapped))
            self.bank_optimizer.rank = self.bank.placement.rank
        if resume_from_checkpoint is not None:
            run_state.load(self, Path(resume_from_checkpoint))
            self._load_scaler(resume_from_checkpoint)
        return prepared

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model=None) -> None:
        """Nothing yet: the state is loaded when the optimizer exists, see `_prepare_for_training`."""

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """The scheduler alone: the optimizer's moments are among the run's own tensors."""
        if self.args.should_save:
            torch.save(self.lr_scheduler.state_dict(), Path(output_dir) / "scheduler.pt")


def _mapping(params: dict[str, Any] | str | None) -> dict[str, Any]:
    if isinstance(params, str):
        raise ConfigError(f"forecaster_params is {params!r}; expected a mapping, as JSON on the command line")
    return params or {}


def _refuse(args: ForesightConfig, kwargs: dict[str, Any]) -> None:
    """Name what a bank cannot be combined with, before any work is done."""
    for name, remedy in {
        "peft_config": "the bank is the adapter; use SFTTrainer for a PEFT run",
        "optimizers": "the bank has its own optimizer; set learning_rate, adam_beta1/2, adam_epsilon, weight_decay",
        "optimizer_cls_and_kwargs": "the bank has its own optimizer; set learning_rate, adam_beta1/2, weight_decay",
        "quantization_config": "folding needs float32 or bfloat16 weights",
    }.items():
        if kwargs.get(name) not in (None, (None, None)):
            raise ConfigError(f"ForesightTrainer does not take {name}: {remedy}")
    if args.optim not in _ADAMW:
        raise ConfigError(f"optim is {args.optim!r}; the bank is trained with AdamW, leave optim at its default")
    if args.load_best_model_at_end:
        raise ConfigError("load_best_model_at_end is not supported: checkpoints hold the bank, not whole models")
    refuse_world(args)
