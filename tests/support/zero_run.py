"""A small run for groups and launchers: zero_run.py OUTPUT BASE STAGE [--resume] [--stop STEP] [--die-at EVENT].

STAGE is 1, 2, 3, the path of a DeepSpeed config, or 0 for none.
"""

import argparse
import json
import os
import signal

import deepspeed
import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from support.tiny import pairs, sentences, tiny_tokenizer

torch.set_num_threads(1)
deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False  # a minute of compiling, for inference only


class Stop(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise RuntimeError("power cut")


def count_events(folder, rank, die_at):
    """Count what this process does to its state, before and after each act; at one of them, it is killed."""
    from foresight.bank.optimizer import BankAdamW
    from foresight.bank.zero import ZeroPlacement
    from foresight.training import checkpoint
    from foresight.trajectory.folder import TrajectoryFolder

    acts = [(ZeroPlacement, name) for name in ("values", "change_values", "change_state", "whole", "gather")]
    acts += [(BankAdamW, "step"), (TrajectoryFolder, "write"), (checkpoint, "write_state"), (checkpoint, "seal")]
    done = []

    def event(name):
        done.append(name)
        if len(done) == die_at:
            with open(f"{folder}-died", "a") as file:
                file.write(f"{rank} {name}\n")
            os.kill(os.getpid(), signal.SIGKILL)

    def counted(act, name):
        def wrapper(*args, **kwargs):
            event(f"before {name}")
            result = act(*args, **kwargs)
            event(f"after {name}")
            return result

        return wrapper

    for owner, name in acts:
        setattr(owner, name, counted(getattr(owner, name), name))
    return done


def main(*words):
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("base")
    parser.add_argument("stage")
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop", type=int)
    parser.add_argument("--die-at", type=int)
    parser.add_argument("--die-rank", type=int)
    parser.add_argument("--save-steps", type=int, default=4)
    parser.add_argument("--local_rank", type=int)
    options = parser.parse_args(words or None)
    world, rank = int(os.environ.get("WORLD_SIZE", "1")), int(os.environ.get("RANK", "0"))
    settings = {}
    if options.stage.endswith(".json"):
        settings["deepspeed"] = options.stage
    elif options.stage != "0":
        zero = {"stage": int(options.stage), "stage3_param_persistence_threshold": 0}
        auto = ("train_micro_batch_size_per_gpu", "gradient_accumulation_steps", "gradient_clipping")
        path = f"{options.output}-zero-{rank}.json"
        with open(path, "w") as file:
            json.dump(dict.fromkeys(auto, "auto") | {"zero_optimization": zero, "bf16": {"enabled": "auto"}}, file)
        settings["deepspeed"] = path
    events = None
    if options.die_at:
        events = count_events(options.output, rank, options.die_at if rank == options.die_rank else None)
    args = ForesightConfig(
        output_dir=options.output, use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        disable_tqdm=True, max_steps=10, per_device_train_batch_size=4 // world, gradient_accumulation_steps=2,
        learning_rate=1e-2, adam_epsilon=1e-3, save_strategy="steps", save_steps=options.save_steps, seed=3, budget=0.2,
        probe_every=2, remask_every=3, probe_examples=6, probe_batch_size=2, calibrate=False,
        policy_params={"watch_steps": 3}, **settings,
    )  # fmt: skip
    # After the settings: under ZeRO 3 the model is sharded while it loads.
    model = AutoModelForCausalLM.from_pretrained(options.base)
    trainer = ForesightTrainer(model, args, sentences(96), pairs(), processing_class=tiny_tokenizer())
    if options.stop:
        trainer.add_callback(Stop(options.stop))
    trainer.train(resume_from_checkpoint=options.resume or None)
    if events is not None and rank == options.die_rank:
        with open(f"{options.output}-events", "w") as file:
            file.write("\n".join(events))


if __name__ == "__main__":
    main()
