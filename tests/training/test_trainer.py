"""ForesightTrainer: masks decided on time, the mask provably acts, and a resumed run is the uninterrupted one."""

import json
import math
import resource
import shutil
import signal

import numpy as np
import pytest
import torch
import yaml
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, TrainerCallback
from trl import SFTConfig, SFTTrainer

from foresight.bank.delta import apply_delta
from foresight.common.errors import (
    BudgetError,
    CheckpointError,
    ConfigError,
    DataError,
    NonFiniteError,
    UnknownNameError,
)
from foresight.common.files import DiskFullError
from foresight.masks.budget import budget_vectors
from foresight.masks.masks import Mask
from foresight.masks.schedule import MaskSchedule
from foresight.model.components import component_table
from foresight.training import checkpoint
from foresight.training.export import export
from foresight.training.trainer import ForesightTrainer
from support.runs import COMMON, Stop, config, delta, run, same, trainer
from support.tiny import pairs, sentences, tiny, tiny_tokenizer, tokens

# -- the mask acts ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulation", [1, 2])
def test_full_policy_equals_sft_of_the_same_matrices(tmp_path, accumulation):
    ours = run(tmp_path / "ours", policy="full", contrast=False, gradient_accumulation_steps=accumulation)
    model = tiny().requires_grad_(False)
    for target in ours.table.targets:
        model.get_submodule(target.module).weight.requires_grad_(True)
    args = SFTConfig(output_dir=str(tmp_path / "sft"), gradient_accumulation_steps=accumulation, **COMMON)
    SFTTrainer(model=model, args=args, train_dataset=sentences(), processing_class=tiny_tokenizer()).train()
    merged = ours.bank.merged_state_dict()
    for name, weight in model.state_dict().items():
        # Adam divides by the root of tiny second moments: a last-bit difference in a gradient can move a weight by lr.
        assert (merged[name] - weight).abs().max() < 2e-3 and (merged[name] - weight).abs().mean() < 1e-5, name


@pytest.mark.parametrize(
    "settings", [dict(policy="full"), dict(policy="foresight"), dict(policy="random", redraw=True)]
)
@pytest.mark.parametrize("resumed", [False, True])
def test_log_lines_are_those_of_sft(tmp_path, settings, resumed):
    """At a learning rate of 0 both train the same model; what masks do in between is logged beside."""
    shared = {**COMMON, "learning_rate": 0.0, "logging_steps": 3, "save_strategy": "steps", "save_steps": 4}

    def masked():
        return trainer(tmp_path / "ours", contrast=settings["policy"] == "foresight", **{**shared, **settings})

    def unmasked():
        args = SFTConfig(output_dir=str(tmp_path / "sft"), **shared)
        return SFTTrainer(model=tiny(), args=args, train_dataset=sentences(), processing_class=tiny_tokenizer())

    def trained(make):
        if resumed:
            broken = make()
            broken.add_callback(Stop(5))
            with pytest.raises(RuntimeError, match="power cut"):
                broken.train()
        done = make()
        done.train(resume_from_checkpoint=resumed)
        return done

    ours, plain = trained(masked), trained(unmasked)
    names = ("step", "epoch", "loss", "entropy", "mean_token_accuracy", "num_tokens", "learning_rate")
    found = [[[e[name] for name in names] for e in one.state.log_history if "loss" in e] for one in (plain, ours)]
    assert len(found[0]) == 4 and np.allclose(*found, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        dict(policy="foresight"),
        dict(policy="foresight", watch="rotate", forecaster="persistence"),
        dict(policy="foresight", watch="full-rollback", weight_decay=0.1),
        dict(policy="static", restart_every=4, weight_decay=0.1),
        dict(policy="random", redraw=True),
        dict(policy="reactive", activation_checkpointing=True),
        dict(policy="reactive", contrast=False, scorer="utility", gradient_accumulation_steps=2),
    ],
    ids=lambda s: "-".join(str(v) for v in s.values()),
)
def test_only_what_was_ever_in_a_mask_changes(tmp_path, settings):
    before = tiny().state_dict()
    done = run(tmp_path, **settings)
    entries = done.schedule.entries
    if settings.get("watch") == "full-rollback":
        entries = entries[1:]
    ever = Mask.of(i for _, mask in entries for i in mask.components)
    merged, changed = done.bank.merged_state_dict(), 0
    inside = {name: torch.zeros_like(w, dtype=torch.bool) for name, w in before.items()}
    for i in ever.components:
        for piece in done.table.components[i].slices:
            view = inside[f"{piece.module}.weight"]
            (view if piece.axis == "row" else view.T)[piece.start : piece.stop] = True
    for name, weight in before.items():
        assert torch.equal(merged[name][~inside[name]], weight[~inside[name]]), name
        changed += int((merged[name] != weight)[inside[name]].sum())
    assert changed > 0.98 * sum(int(m.sum()) for m in inside.values())
    assert done.bank.vectors.shape[0] == budget_vectors(done.table, 0.2) == done.run.n_vectors


def test_trainable_parameters_are_the_budget(tmp_path):
    done = trainer(tmp_path, budget=0.1)
    trainable = sum(p.numel() for p in done.model.parameters() if p.requires_grad)
    all_of_them = sum(p.numel() for p in tiny().parameters())
    assert trainable <= 0.1 * all_of_them < trainable + done.table.d_model


def test_compiled_run_equals_the_plain_one(tmp_path):
    settings = dict(policy="random", redraw=True, max_steps=6)
    plain = run(tmp_path / "plain", model=tiny(num_hidden_layers=1), **settings)
    compiled = run(
        tmp_path / "compiled",
        model=tiny(num_hidden_layers=1),
        torch_compile=True,
        torch_compile_backend="eager",
        **settings,
    )
    a, b = plain.bank.merged_state_dict(), compiled.bank.merged_state_dict()
    assert len(plain.schedule.entries) == 2 and all((a[k] - b[k]).abs().max() < 1e-3 for k in a)


@pytest.mark.parametrize("scorer", ["attribution_ig", "exact", "gradient", "weight_gradient", "movement", "utility"])
def test_every_kind_of_scorer_drives_a_run(tmp_path, scorer):
    done = run(tmp_path, policy="reactive", scorer=scorer, remask_every=6, restart_every=6)
    values = done.trajectory.values(scorer)
    assert values.shape == (len(done.table), 2) and (values[:, 1] != 0).any()
    if scorer == "movement":
        assert not values[:, 0].any()
        still = set(range(len(done.table))) - set(done.schedule.entries[0][1].components)
        assert not values[sorted(still), 1].any()


def test_bf16_base(tmp_path):
    before = tiny(dtype=torch.bfloat16).state_dict()
    done = run(tmp_path, model=tiny(dtype=torch.bfloat16), policy="reactive")
    merged = done.bank.merged_state_dict()
    moved = sum(int((merged[k] != before[k]).sum()) for k in before)
    assert done.bank.vectors.dtype == torch.float32 and moved > 0
    assert merged["model.embed_tokens.weight"].equal(before["model.embed_tokens.weight"])


# -- the calendar -----------------------------------------------------------------------------------------------------


def test_foresight_watches_then_decides_at_its_cadence(tmp_path):
    done = run(tmp_path, policy="foresight", watch="rotate", forecaster="persistence")
    assert done.trajectory.steps.tolist() == [0, 2, 3, 4, 6, 8, 9, 10, 12]
    decided = [entry["step"] for entry in done.state.log_history if "foresight/churn" in entry]
    assert decided == [0, 2, 3, 6, 9]


def test_cutoff_hides_later_snapshots(tmp_path):
    early = run(tmp_path / "a", policy="foresight", cutoff=3, forecaster="persistence")
    masks = [mask for step, mask in early.schedule.entries if step >= 3]
    assert len(masks) <= 1  # nothing new is seen after step 3, so persistence has no reason to change its mind
    assert all(forecast.made_at <= 3 for forecast in early.run.skill_log.pending)


def test_skill_budget_and_share_are_logged(tmp_path):
    done = run(tmp_path, policy="foresight", forecaster="persistence")
    logged = {key for entry in done.state.log_history for key in entry if key.startswith("foresight/")}
    assert logged >= {"foresight/skill", "foresight/forecast_overlap", "foresight/churn", "foresight/budget",
                      "foresight/scoring_share"}  # fmt: skip
    skills = [entry["foresight/skill"] for entry in done.state.log_history if "foresight/skill" in entry]
    assert skills and all(s == 0 for s in skills)  # persistence against persistence
    assert 0 < done.remasking.scoring_share() < 1


def test_replay_repeats_a_run(tmp_path):
    first = run(tmp_path / "a", policy="random", redraw=True)
    again = run(tmp_path / "b", policy="replay", mask_schedule=str(tmp_path / "a" / "schedule.json"))
    assert len(first.schedule.entries) > 2 and again.schedule.entries == first.schedule.entries
    assert same(delta(tmp_path / "a"), delta(tmp_path / "b"))


def test_oracle_and_prior_learn_from_a_recorded_run(tmp_path):
    full = run(tmp_path / "full", policy="full", record=True)
    recorded = str(tmp_path / "full" / "trajectory")
    oracle = run(tmp_path / "oracle", policy="oracle", oracle_trajectory=recorded)
    last = full.trajectory.series("attribution").values[:, -1]
    assert int(np.argmax(last)) in oracle.schedule.entries[0][1].components
    assert len(run(tmp_path / "prior", policy="prior", history=[recorded]).schedule.entries) == 1
    assert run(tmp_path / "foresight", history=[recorded]).policy.last_forecast is not None


def test_text_without_pairs_and_messages(tmp_path):
    done = run(tmp_path / "text", contrast=False, policy="foresight")
    assert done.run.watcher.scorer.name == "step_attribution"


# -- checkpoints ------------------------------------------------------------------------------------------------------


def test_full_disk_keeps_the_last_checkpoint(tmp_path):
    """A file size limit stands in for a full disk: the write fails half way, as there."""
    settings = dict(policy="static", save_strategy="steps", save_steps=4)
    broken = trainer(tmp_path, **settings)

    class Fill(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 6:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
                resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))

    broken.add_callback(Fill())
    try:
        with pytest.raises(DiskFullError, match="no space left"):
            broken.train()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert checkpoint.last_complete(tmp_path).name == "checkpoint-4"
    whole = run(tmp_path.parent / "whole", **settings)
    run(tmp_path, resume=True, **settings)
    assert same(delta(tmp_path), delta(whole.run.output))


def test_nan_loss_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    broken = trainer(tmp_path, policy="static", save_strategy="steps", save_steps=4)

    class Poison(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            if state.global_step == 6:
                broken.bank.vectors.data.fill_(math.nan)

    broken.add_callback(Poison())
    with pytest.raises(NonFiniteError, match=r"nan at step 7.*checkpoint-4"):
        broken.train()
    tensors, _ = checkpoint.read_state(tmp_path / "checkpoint-4")
    assert torch.isfinite(tensors["bank.vectors"]).all()


# -- what is left behind ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_export_loads_in_plain_transformers(tmp_path, dtype):
    tiny(dtype=dtype).save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype)
    done = run(tmp_path / "run", model=model, policy="reactive")
    expected = done.bank.merged_state_dict()
    merged = AutoModelForCausalLM.from_pretrained(export(tmp_path / "run", "merged", tmp_path / "merged"))
    assert same({k: v for k, v in merged.state_dict().items()}, expected)
    if dtype == torch.float32:
        assert torch.allclose(merged(tokens()).logits, done.model.eval()(tokens()).logits, atol=1e-5)
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype)
    apply_delta(plain, export(tmp_path / "run", "delta", tmp_path / "delta"))
    assert same(dict(plain.state_dict()), expected)
    done.save_model(str(tmp_path / "saved"))
    saved = AutoModelForCausalLM.from_pretrained(tmp_path / "saved")
    assert same(dict(saved.state_dict()), expected)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_checkpoint_can_be_exported(tmp_path, dtype):
    """With folded and active vectors; the last checkpoint is the run's end."""
    tiny(dtype=dtype).save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype)
    done = run(tmp_path / "run", model=model, policy="reactive", save_strategy="steps", save_steps=3)
    assert len(done.bank.ledger)
    last = checkpoint.last_complete(tmp_path / "run")
    assert last.name == f"checkpoint-{done.state.global_step}"
    merged = AutoModelForCausalLM.from_pretrained(export(last, "merged", tmp_path / "merged"), dtype=dtype)
    assert same(dict(merged.state_dict()), done.bank.merged_state_dict())
    assert (tmp_path / "merged" / "tokenizer.json").exists()
    ours, theirs = (load_file(export(folder, "delta", tmp_path / name) / "delta.safetensors")
                    for folder, name in ((last, "a"), (tmp_path / "run", "b")))  # fmt: skip
    assert ours.keys() == theirs.keys() and all(torch.equal(ours[k], theirs[k]) for k in ours)
    shutil.rmtree(tmp_path / "run" / "delta")
    with pytest.raises(CheckpointError, match=f"export .*{last.name}"):
        export(tmp_path / "run", "delta", tmp_path / "c")


def test_export_refuses_what_it_cannot_do(tmp_path):
    done = run(tmp_path / "run", policy="static")
    with pytest.raises(ConfigError, match="did you mean 'merged'"):
        export(done.run.output, "merge", tmp_path / "out")
    with pytest.raises(ConfigError, match="not empty"):
        export(done.run.output, "delta", done.run.output)
    with pytest.raises(CheckpointError, match="nowhere does not exist"):
        export(tmp_path / "nowhere", "delta", tmp_path / "out")
    with pytest.raises(CheckpointError, match="this model's weights are"):
        apply_delta(tiny(seed=1), done.run.output / "delta")


def test_the_model_card_says_what_was_done(tmp_path):
    model = tiny()
    model.save_pretrained(tmp_path / "base")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "base")
    done = run(tmp_path / "run", model=model, policy="random", redraw=True, save_strategy="steps", save_steps=6)
    text = (tmp_path / "run" / "README.md").read_text()
    n, whole = done.run.n_vectors * 32, done.table.model_parameters
    loss = [entry["loss"] for entry in done.state.log_history if "loss" in entry][-1]
    for said in (
        f"| trained | {n:,} of {whole:,} parameters at a time", "policy `random` (redraw: True): 4 masks",
        f"| loss | {loss:.4g} |", "12 of 4 rows, learning rate 0.01", done.bank.base.hash, "rows given from Python",
    ):  # fmt: skip
        assert said in text
    assert "None" not in text and yaml.safe_load(text.split("---")[1])["library_name"] == "transformers"
    for where in ("run", "run/checkpoint-6"):
        for to in ("merged", "delta"):
            export(tmp_path / where, to, tmp_path / to / where)
            assert (tmp_path / to / where / "README.md").read_text() == text


def test_schedule_file_names_components(tmp_path):
    done = run(tmp_path, policy="static")
    data = json.loads((tmp_path / "schedule.json").read_text())
    assert data["entries"][0]["components"] == done.schedule.entries[0][1].names(done.table)
    assert MaskSchedule.read(tmp_path / "schedule.json", done.table).entries == done.schedule.entries


# -- bad inputs -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(budget=0), BudgetError, "budget is 0"),
        (dict(budget=1.5), BudgetError, "budget is 1.5"),
        (dict(budget=1e-4), BudgetError, "smallest component"),
        (dict(policy="forsight"), UnknownNameError, "did you mean 'foresight'"),
        (dict(forecaster="rigde"), UnknownNameError, "did you mean 'ridge'"),
        (dict(forecaster_params={"alhpa": 1}), ConfigError, "alhpa"),
        (dict(scorer="atribution"), UnknownNameError, "did you mean 'attribution'"),
        (dict(scorer="attribution", contrast=False), ConfigError, "needs contrast pairs"),
        (dict(watch="full"), ConfigError, "full-keep"),
        (dict(probe_every=0), ConfigError, "probe_every is 0"),
        (dict(remask_every=-1), ConfigError, "remask_every is -1"),
        (dict(policy="oracle"), ConfigError, "oracle_trajectory"),
        (dict(policy="replay"), ConfigError, "mask_schedule"),
        (dict(optim="sgd"), ConfigError, "AdamW"),
        (dict(gradient_checkpointing_kwargs={"use_reentrant": True}), ConfigError, "use_reentrant"),
        (dict(enable_jit_checkpoint=True), ConfigError, "at SIGTERM every run writes a checkpoint"),
        (dict(save_only_model=True), ConfigError, "nothing to resume from"),
    ],
    ids=lambda v: str(v) if isinstance(v, dict) else "",
)
def test_bad_settings_are_refused_before_any_work(tmp_path, settings, error, message):
    with pytest.raises(error, match=message):
        trainer(tmp_path / "run", **settings)
    assert not (tmp_path / "run" / "trajectory").exists()


def test_empty_dataset_and_peft_are_refused(tmp_path):
    with pytest.raises(DataError, match="empty"):
        trainer(tmp_path, train_dataset=sentences().select([]))
    args = config(tmp_path)
    with pytest.raises(ConfigError, match="peft_config"):
        ForesightTrainer(tiny(), args, sentences(), pairs(), peft_config=object())


def test_pairs_of_unequal_length_show_the_row(tmp_path):
    rows = pairs().to_list()
    rows[3]["corrupted"] += " w5"
    from datasets import Dataset

    args = config(tmp_path)
    with pytest.raises(DataError, match=r"3.*" + rows[3]["clean"]):
        ForesightTrainer(tiny(), args, sentences(), Dataset.from_list(rows), processing_class=tiny_tokenizer())


def test_table_of_the_model_is_the_table_of_the_run(tmp_path):
    assert trainer(tmp_path, mlp_block=8).table.hash == component_table(tiny(), 8).hash


def test_a_seal_that_points_elsewhere_is_refused(tmp_path):
    (tmp_path / "outside.txt").write_text("not a part of it")
    folder = tmp_path / "checkpoint-1"
    checkpoint.write_state(folder, {"x": torch.zeros(1)}, {})
    checkpoint.seal(folder)
    seal = json.loads((folder / checkpoint.SEAL).read_text())
    (folder / checkpoint.SEAL).write_text(json.dumps({**seal, "../outside.txt": "0" * 64}))
    with pytest.raises(CheckpointError, match="'../outside.txt', which lies outside the checkpoint"):
        checkpoint.check(folder)
