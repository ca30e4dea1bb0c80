import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.models.auto.configuration_auto import CONFIG_MAPPING

from eval.word_tokenizer import make_tokenizer
from foresight.bank.delta import apply_delta
from foresight.cli import main
from foresight.model.components import component_table
from support.tiny import published, tiny

WORDS = "the cat dog sat ran on mat log a big red one".split()


@pytest.fixture
def recipe(tmp_path):
    def write(text):
        path = tmp_path / "recipe.yaml"
        path.write_text(text)
        return path

    return write


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    """A tiny Llama with its own tokenizer, as a user would have it on disk."""
    folder = tmp_path_factory.mktemp("model")
    tokenizer = make_tokenizer(WORDS)
    tiny("llama", vocab_size=64).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def text_file(tmp_path):
    rows = [{"text": " ".join(WORDS[(i + j) % len(WORDS)] for j in range(6))} for i in range(24)]
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def train(model_folder, text_file, tmp_path):
    """The words of a small `foresight train` run into tmp_path/run."""
    settings = {
        "model": model_folder,
        "dataset": text_file,
        "output_dir": tmp_path / "run",
        "budget": 0.2,
        "max_steps": 6,
        "policy_params.watch_steps": 2,
        "remask_every": 2,
        "probe_every": 2,
        "probe_examples": 8,
        "save_steps": 2,
        "logging_steps": 1,
        "learning_rate": 0.01,
        "use_cpu": True,
        "bf16": False,
        "gradient_checkpointing": False,
        "disable_tqdm": True,
    }

    def words(**changes):
        return ["train", *(f"--{k}={v}" for k, v in {**settings, **changes}.items())]

    return words


# -- start-up and arguments -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("words", [[], ["--help"], ["train", "--help"], ["plan", "--help"], ["demo", "--help"]])
def test_help_imports_nothing_heavy(words):
    script = (
        "import sys, foresight\nfrom foresight.cli import main\n"
        f"try:\n    main({words!r})\nexcept SystemExit as stop:\n    assert stop.code == 0\n"
        "heavy = {'torch', 'transformers', 'trl', 'numpy', 'datasets', 'rich'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage: foresight" in done.stdout


def test_help_names_every_command(cli):
    _, out, _ = cli()
    for command in ("demo", "train", "components", "plan", "export"):
        assert f"    {command}" in out


def test_version(cli, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["--version"])
    assert stop.value.code == 0 and capsys.readouterr().out.startswith("foresight 0.")


def test_unknown_command_offers_the_closest(refused):
    assert "unknown command 'trian' (did you mean 'train'?)" in refused("trian")


def test_unknown_option_offers_the_closest(refused):
    assert "did you mean '--mlp-block'?" in refused("components", "--mlp-blok", "3")
    assert "unexpected argument '--frob'" in refused("--frob")
    assert "--mlp-block: invalid int value: 'x'" in refused("components", "--mlp-block", "x")


def test_options_are_not_abbreviated(refused):
    assert "unexpected argument '--mlp'" in refused("components", "--mlp", "3")
    assert "unknown setting 'max_step' (did you mean 'max_steps'?)" in refused("plan", "--max_step", "3")


def test_debug_shows_the_traceback(cli, monkeypatch):
    assert "Traceback" in cli("--debug", "trian")[2]
    monkeypatch.setenv("FORESIGHT_DEBUG", "1")
    assert "Traceback" in cli("trian")[2]


def test_interrupt_is_no_traceback(cli, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("foresight.training.export.export", interrupt)
    code, _, err = cli("export", "run", "--to", "delta", "--out", "x")
    assert code == 130 and err == "foresight: interrupted\n"


# -- components -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("family", ["qwen3", "gpt2"])
def test_components_lists_what_the_model_has(cli, tmp_path, family):
    model = tiny(family)
    model.config.save_pretrained(tmp_path)  # no weights: the config is enough
    code, out, _ = cli("components", tmp_path, "--mlp-block", "16", "--list")
    rows = [line.split("\t") for line in out.splitlines()[1:]]
    table = component_table(model, 16)
    assert code == 0 and [row[0] for row in rows] == list(table.name)
    assert [int(row[3]) for row in rows] == table.vectors.tolist()
    _, summary, _ = cli("components", tmp_path)
    assert f"{sum(p.numel() for p in model.parameters()):,}" in summary
    assert ("kv" in summary) == (family == "qwen3")


def test_components_shares_add_up(cli, tmp_path):
    tiny("phi3").config.save_pretrained(tmp_path)
    _, out, _ = cli("components", tmp_path)
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    count = {tuple(row[:2]): int(row[5].replace(",", "")) for row in rows}
    by_layer = [n for (layer, _), n in count.items() if layer != "all"]
    assert sum(by_layer) == count["all", "components"]
    assert count["all", "components"] + count["all", "not maskable"] == count["all", "all"]


def test_components_of_a_mixture_of_experts_are_its_attention(cli, tmp_path):
    CONFIG_MAPPING["mixtral"](
        hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2
    ).save_pretrained(tmp_path)
    code, out, err = cli("components", tmp_path, "--list")
    assert code == 0, err
    assert [line.split("\t")[2] for line in out.splitlines()[1:]] == ["head"] * 4 + ["kv"] * 2


def test_components_names_a_layout_that_it_does_not_know(refused, tmp_path):
    CONFIG_MAPPING["mamba"](hidden_size=32, num_hidden_layers=1).save_pretrained(tmp_path)
    message = refused("components", tmp_path)
    assert "model type 'mamba' is not supported: no layer of backbone.layers" in message and "mixer.in_proj" in message


def test_missing_models_are_explained(refused, tmp_path):
    assert "no config.json" in refused("components", tmp_path)
    assert "expected a local folder" in refused("components", tmp_path / "absent")
    (tmp_path / "config.json").write_text('{"model_type": "novel"}')
    assert "remote code is never run" in refused("components", tmp_path)


# -- settings ---------------------------------------------------------------------------------------------------------


def test_unknown_key_names_file_line_and_the_closest(refused, recipe):
    path = recipe("task: ioi\n# a comment\nbugdet: 0.1\n")
    assert f"{path}:3: unknown setting 'bugdet' (did you mean 'budget'?)" in refused("train", "--config", path)


def test_unknown_flag_offers_the_closest(refused):
    assert "unknown setting 'bugdet' (did you mean 'budget'?)" in refused("plan", "--bugdet", "0.1")
    assert "unknown setting 'max_stepz' (did you mean 'max_steps'?)" in refused("plan", "--max-stepz=3")
    assert "unexpected argument 'stray'" in refused("plan", "--max_steps", "3", "stray")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("task: ioi\nbudget: [0.1\noutput_dir: x\n", ":3: not valid YAML"),
        ("task: ioi\nbudget: 0.1\nbudget: 0.2\n", ":3: 'budget' is set twice (first on line 2)"),
        ("- task\n", "expected a mapping"),
        ("", "expected a mapping"),
        ("budget: five\n", ":1: argument --budget: invalid float value: 'five'"),
        ("max_steps: 1.5\n", "invalid int value: '1.5'"),
        ("max_steps: true\n", "invalid int value: 'True'"),
        ("budget: [1, 2]\n", ":1: budget is [1, 2]; expected float"),
        ("budget: null\n", ":1: budget is None; expected float"),
        ("dtype: float64\n", ":1: argument --dtype: invalid choice: 'float64'"),
        ("label_map: {a: b\n", "not valid YAML"),
        ("task: !!python/object/apply:os.getcwd []\n", ":1: not valid YAML"),
        ("env: {A: b}\n", "unknown setting 'env'"),
    ],
)
def test_recipes_that_cannot_be_used(refused, recipe, text, problem):
    path = recipe(text)
    error = refused("plan", "--config", path)
    assert str(path) in error and problem in error


def test_recipe_that_is_not_there(refused, tmp_path):
    assert "cannot be read" in refused("train", "--config", tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (["--budget", "0"], "budget is 0.0"),
        (["--budget", "1.5"], "budget is 1.5"),
        (["--budget", "0.0001"], "smallest component"),
        (["--budget", "abc"], "invalid float value: 'abc'"),
        (["--policy", "forsight"], "did you mean 'foresight'?"),
        (["--policy_params.watch", "rotat"], "did you mean 'rotate'?"),
        (["--fp16", "true", "--bf16", "false"], "fp16"),
    ],
)
def test_values_that_cannot_be_used(refused, model_folder, flags, problem):
    assert problem in refused("plan", "--model", model_folder, "--max_steps", "10", *flags)


def test_settings_are_listed_with_help(cli):
    _, out, _ = cli("train", "--settings")
    assert out.startswith("What most people change\n")
    for name in ("task (", "model (", "budget (float, default 0.05)"):
        assert f"\n{name}" in out
    assert "share of ALL model parameters" in out and "\nlearning_rate (" not in out
    assert max(map(len, out.splitlines())) <= 100
    assert "\nlearning_rate (float, default 2e-05)" in cli("train", "--settings", "trl")[1]
    assert "\npolicy_params.watch_steps (int, default null)" in cli("plan", "--settings", "policy_params")[1]
    assert "target_tasks (" in cli("demo", "--settings")[1]


def test_settings_are_found_by_a_word(cli):
    _, out, _ = cli("train", "--settings", "HORIZON")
    assert [line.split()[0] for line in out.splitlines() if line[0] != " "] == ["target", "horizon"]
    assert "has 'frobnicate'" in cli("compare", "--settings", "frobnicate")[1]


# -- plan -------------------------------------------------------------------------------------------------------------


def test_plan_of_a_large_model_without_weights(cli, recipe, tmp_path):
    published("meta-llama/Llama-3.1-8B").save_pretrained(tmp_path)
    path = recipe(
        "task: ioi\nbudget: 0.05\nmax_steps: 100\npolicy_params: {watch_steps: 20}\nremask_every: 40\nbf16: true\n"
    )
    code, out, _ = cli("plan", "--config", path, "--model", tmp_path, "--processes", "8")
    assert code == 0
    vectors = int(0.05 * 8_030_261_248 / 4096)
    assert "8,030,261,248" in out and f"{vectors:,} vectors" in out and f"{vectors * 4096:,}" in out
    assert "2, after steps 20, 60" in out
    ways = re.findall(r"^│ (no DeepSpeed|ZeRO \d)[^│]*│ +([\d.]+) GiB │ +([\w-]+) │ +[\d.]+ GiB │$", out, re.MULTILINE)
    assert [way for way, *_ in ways] == ["no DeepSpeed", "ZeRO 1", "ZeRO 2", "ZeRO 3", "ZeRO 3", "ZeRO 3"]
    devices = [float(device) for _, device, _ in ways]
    assert devices == sorted(devices, reverse=True)
    assert {phase for *_, phase in ways} <= {"forward", "reduction", "step", "re-mask", "scoring", "calibration"}
    assert "scoring" in out and "calibration" in out
    assert f"{3 * 4 * vectors * 4096 / 2**30:.1f} GiB (the bank and its two moments" in out
    assert max(map(len, out.splitlines())) <= 100


def test_plan_without_a_known_length(cli, model_folder):
    _, out, _ = cli("plan", "--model", model_folder, "--budget", "0.2")
    assert "pass --rows N" in out
    _, out, _ = cli("plan", "--model", model_folder, "--budget", "0.2", "--rows", "100", "--num_train_epochs", "2")
    assert re.search(r"optimizer steps +│ 26 ", out)  # 13 batches of 8 an epoch


# -- train and export -------------------------------------------------------------------------------------------------


def test_train_then_export(cli, train, tmp_path, model_folder):
    code, out, err = cli(*train())
    assert code == 0, err
    run = tmp_path / "run"
    assert "max_steps: 6" in out and "budget used" in out and str(run) in out
    config = json.loads((run / "config.json").read_text())
    assert config["training"]["budget"] == 0.2 and config["model"]["model"] == str(model_folder)
    assert cli("export", run, "--to", "merged", "--out", tmp_path / "merged")[0] == 0
    assert cli("export", run, "--to", "delta", "--out", tmp_path / "delta")[0] == 0

    base = AutoModelForCausalLM.from_pretrained(model_folder)
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    ids = torch.arange(4, 16)[None]
    with torch.no_grad():
        expected, before = merged(ids).logits, base(ids).logits
        assert torch.equal(apply_delta(base, tmp_path / "delta")(ids).logits, expected)
    assert not torch.allclose(before, expected)


def test_train_refuses_a_second_run_and_resumes(cli, refused, train, tmp_path):
    assert cli(*train(max_steps=6, learning_rate=0.01))[0] == 0
    whole = (tmp_path / "run" / "delta" / "delta.safetensors").read_bytes()
    assert "--resume" in refused(*train())
    shutil.rmtree(tmp_path / "run" / "checkpoint-6")
    shutil.rmtree(tmp_path / "run" / "delta")
    code, _, err = cli(*train(), "--resume")
    assert code == 0, err
    assert (tmp_path / "run" / "delta" / "delta.safetensors").read_bytes() == whole


def test_interrupted_training_says_how_to_go_on(cli, train, tmp_path, monkeypatch):
    from foresight.bank.optimizer import BankAdamW

    steps, step = [], BankAdamW.step

    def interrupt(self, closure=None):
        steps.append(1)
        if len(steps) == 4:
            raise KeyboardInterrupt
        return step(self, closure)

    monkeypatch.setattr(BankAdamW, "step", interrupt)
    code, _, err = cli(*train())
    assert code == 130 and "Traceback" not in err
    assert "interrupted after step 3" in err and "checkpoint-2" in err and "--resume" in err


def test_a_job_that_always_says_resume_begins_stops_in_time_and_ends(cli, refused, train, tmp_path):
    code, _, err = cli(*train(), "--resume", "--max-hours", "1e-9")
    assert code == 75 and "checkpoint-1 is complete; continue with --resume" in err and "Traceback" not in err
    assert cli(*train(), "--resume")[0] == 0
    written = (tmp_path / "run" / "delta" / "delta.safetensors").read_bytes()
    assert cli(*train(), "--resume")[0] == 0  # there is nothing left to do
    assert (tmp_path / "run" / "delta" / "delta.safetensors").read_bytes() == written
    assert "--max-hours is 0.0" in refused(*train(), "--resume", "--max-hours", "0")


def test_model_from_config(cli, refused, train, tmp_path, model_folder):
    folder = tmp_path / "config-only"
    tiny("llama").config.save_pretrained(folder)
    words = {"model": folder, "tokenizer": model_folder, "max_steps": 3}
    assert "from_config" in refused(*train(**words))
    code, _, err = cli(*train(**words, from_config=True))
    assert code == 0, err
    assert cli("export", tmp_path / "run", "--to", "merged", "--out", tmp_path / "merged")[0] == 0


def test_incomplete_weights_are_refused(refused, train, tmp_path, model_folder):
    folder = tmp_path / "headless"
    shutil.copytree(model_folder, folder)
    tiny("llama", vocab_size=64).model.save_pretrained(folder)  # the backbone alone: no output head
    assert "lack 1 tensors" in refused(*train(model=folder))


def test_foreign_tokenizer_is_refused(refused, train, tmp_path):
    make_tokenizer(f"word{i}" for i in range(100)).save_pretrained(tmp_path / "tokenizer")
    assert "do not belong together" in refused(*train(tokenizer=tmp_path / "tokenizer"))
    assert "cannot be loaded" in refused(*train(tokenizer=tmp_path / "absent"))


def test_remote_code_is_refused(refused, train):
    assert "trust_remote_code" in refused(*train(trust_remote_code=True))
    assert "model_init_kwargs" in refused(*train(model_init_kwargs='{"dtype": "float16"}'))


def test_data_errors_are_one_line(refused, train, tmp_path):
    assert "no file or folder" in refused(*train(dataset=tmp_path / "absent.jsonl"))
    (tmp_path / "empty.jsonl").write_text("")
    assert "empty" in refused(*train(dataset=tmp_path / "empty.jsonl"))
    assert "set exactly one" in refused(*train(task="ioi"))


def test_export_errors(refused, tmp_path):
    assert "no finished run" in refused("export", tmp_path, "--to", "delta", "--out", tmp_path / "out")
    assert "did you mean 'merged'?" in refused("export", tmp_path, "--to", "merge", "--out", tmp_path / "out")


def test_sst2_recipe_on_real_data(cli, tmp_path, real_data):
    """Labelled sentences, a subword tokenizer and a model built from its config: trained, exported, loaded."""
    recipe = Path(__file__).parents[2] / "recipes" / "train" / "sst2.yaml"
    tiny("qwen2", vocab_size=50304).config.save_pretrained(tmp_path / "model")
    rows = real_data("sst2/train.tsv").read_text().splitlines(keepends=True)[:40]
    (tmp_path / "train.tsv").write_text("".join(rows))
    code, out, err = cli(
        "train", "--config", recipe, "--model", tmp_path / "model",
        "--tokenizer", real_data("pythia-tokenizer"), "--dataset", tmp_path / "train.tsv",
        "--eval_dataset", tmp_path / "train.tsv", "--output_dir", tmp_path / "run", "--max_steps", 4,
        "--budget", 0.005, "--probe_every", 2, "--remask_every", 2, "--probe_examples", 8, "--save_strategy", "no",
        "--use_cpu", "--per_device_train_batch_size", 4, "--probe_batch_size", 4,
    )  # fmt: skip
    assert code == 0, err
    assert "evaluation accuracy" in out
    code, _, err = cli("export", tmp_path / "run", "--to", "merged", "--out", tmp_path / "merged")
    assert code == 0, err
    base, merged = (AutoModelForCausalLM.from_pretrained(folder).state_dict() for folder in
                    (tmp_path / "run" / "base", tmp_path / "merged"))  # fmt: skip
    assert sum(not merged[name].equal(weight) for name, weight in base.items()) > 0
