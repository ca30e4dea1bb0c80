"""A small run for launchers: zero_run.py OUTPUT BASE STAGE [--resume] [--stop STEP]; stage 0 is without DeepSpeed."""

import argparse
import json
import os

import torch
from transformers import AutoModelForCausalLM, TrainerCallback

from foresight.training.config import ForesightConfig
from foresight.training.trainer import ForesightTrainer
from tiny import pairs, sentences, tiny_tokenizer

torch.set_num_threads(1)


class Stop(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_begin(self, args, state, control, **kwargs):
        if state.global_step == self.step:
            raise RuntimeError("power cut")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("output")
    parser.add_argument("base")
    parser.add_argument("stage", type=int)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--stop", type=int)
    parser.add_argument("--local_rank", type=int)
    options = parser.parse_args()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    settings = {}
    if options.stage:
        path = f"{options.output}-zero-{os.environ['RANK']}.json"
        with open(path, "w") as file:
            json.dump(
                {
                    "train_micro_batch_size_per_gpu": "auto",
                    "gradient_accumulation_steps": "auto",
                    "gradient_clipping": "auto",
                    "zero_optimization": {"stage": options.stage, "stage3_param_persistence_threshold": 0},
                    "bf16": {"enabled": "auto"},
                },
                file,
            )
        settings["deepspeed"] = path
    args = ForesightConfig(
        output_dir=options.output, use_cpu=True, bf16=False, activation_checkpointing=False, report_to="none",
        disable_tqdm=True, max_steps=12, per_device_train_batch_size=4 // world, gradient_accumulation_steps=2,
        learning_rate=1e-2, adam_epsilon=1e-3, save_strategy="steps", save_steps=4, seed=3, budget=0.2, probe_every=2,
        remask_every=3, probe_examples=6, probe_batch_size=2, watch_steps=3, **settings,
    )  # fmt: skip
    # After the settings: under ZeRO 3 the model is sharded while it loads.
    model = AutoModelForCausalLM.from_pretrained(options.base)
    trainer = ForesightTrainer(model, args, sentences(96), pairs(), processing_class=tiny_tokenizer())
    if options.stop:
        trainer.add_callback(Stop(options.stop))
    trainer.train(resume_from_checkpoint=options.resume or None)


if __name__ == "__main__":
    main()
