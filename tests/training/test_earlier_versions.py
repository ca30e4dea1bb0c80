"""What version 0.1.0 wrote is read: deltas, schedules, trajectories, checkpoints; old settings name the new ones.

The files in data/earlier were written by that version: runs of six steps on the shipped model, one finished over
components, one over single weights broken off after its checkpoint of step 3.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from foresight.bank.delta import apply_delta
from foresight.cli import main
from foresight.masks.schedule import MaskSchedule
from foresight.model.components import component_table
from foresight.model.shipped import model_path
from foresight.policies.catalogue import PARAMETERS
from foresight.training.settings import NAMES, REMOVED
from foresight.trajectory.trajectory import Trajectory

EARLIER = Path(__file__).parent / "data" / "earlier"
BLOCK = 8
"""Neurons per MLP block of the run over components."""


def shipped():
    return AutoModelForCausalLM.from_pretrained(model_path())


def test_a_finished_run_is_read():
    folder, model = EARLIER / "components", shipped()
    table, before = component_table(model, BLOCK), {k: v.clone() for k, v in model.state_dict().items()}
    after = apply_delta(model, folder / "delta").state_dict()
    touched = {
        key.removesuffix(".index") for key in load_file(folder / "delta" / "delta.safetensors") if ".index" in key
    }
    assert {name for name in before if not torch.equal(before[name], after[name])} == {f"{m}.weight" for m in touched}
    schedule = MaskSchedule.read(folder / "schedule.json", table)
    assert [step for step, _ in schedule.entries] == [0, 2, 4] and schedule.at(3).names(table) == [
        "L0.head.7",
        "L0.mlp.37",
    ]
    trajectory = Trajectory.read(folder / "trajectory")
    assert trajectory.steps.tolist() == [0, 1, 2, 3, 4, 5, 6] and len(trajectory.series("attribution")) == len(table)


def test_a_checkpoint_is_resumed_to_where_it_would_have_gone(tmp_path, capsys):
    run = shutil.copytree(EARLIER / "weights", tmp_path / "run")
    flags = dict(task="ioi", task_examples=64, task_eval_examples=8, task_contrast_examples=8, granularity="weights",
                 budget=0.002, policy="random", mask_seed=11, remask_every=2, max_steps=6, logging_steps=1,
                 save_steps=3, per_device_train_batch_size=4, learning_rate=0.003, seed=3, report_to="none",
                 )  # fmt: skip
    flags |= {"policy_params.redraw": "true", "gradient_checkpointing": "false", "output_dir": run}
    assert main(["train", "--resume", *(f"--{name}={value}" for name, value in flags.items())]) == 0, (
        capsys.readouterr()
    )
    log = json.loads((run / "checkpoint-6" / "trainer_state.json").read_text())["log_history"]
    losses = [entry["loss"] for entry in log if "loss" in entry]
    assert losses == pytest.approx([1.3257, 0.8702, 0.6255, 1.1343, 0.7370, 0.9072], abs=2e-3)
    masks = [entry["mask"] for entry in json.loads((run / "schedule.json").read_text())["entries"]]
    assert masks == ["fb84c577f89b", "c98558847e3a", "bf393f830c50"]


def test_every_old_setting_is_known_or_names_what_replaces_it(tmp_path, capsys):
    old = yaml.safe_load((EARLIER / "recipe.yaml").read_text())
    gone = [name for name in old if name in REMOVED]
    assert len(gone) > 15 and not set(gone) & set(NAMES)
    for name in gone:
        recipe = tmp_path / f"{name}.yaml"
        recipe.write_text(yaml.safe_dump({name: old[name]}))
        assert main(["plan", "--config", str(recipe)]) == 2
        error = capsys.readouterr().err
        assert name in error and REMOVED[name] in error
        assert (f"policy_params.{name}" in error) == (name in PARAMETERS)
