"""What is wrong with a command's words is said in one line, in under a second, before anything heavy is imported."""

import json
import os
import subprocess
import sys

import pytest

from foresight.commands.explain import schema
from foresight.commands.fields import command_settings, settings_of, trl_settings
from foresight.training.settings import NAMES

SECONDS = 1.5
"""Of processor time; the aim is 1, and tests run on slow machines as well."""
SCRIPT = """
import contextlib, io, json, sys, time
from foresight.cli import main
begun, answers = time.process_time(), []
for words in json.load(sys.stdin):
    start, said = time.process_time(), io.StringIO()
    with contextlib.redirect_stderr(said):
        code = main(words.split())
    heavy = {"torch", "transformers", "trl", "deepspeed", "sklearn", "datasets", "scipy"} & set(sys.modules)
    answers.append([code, said.getvalue(), begun + time.process_time() - start, sorted(heavy)])
json.dump(answers, sys.stdout)
"""
WRONG = [
    ("train --bugdet 0.1", "unknown setting 'bugdet' (did you mean 'budget'?)"),
    ("train --max_step 3", "unknown setting 'max_step' (did you mean 'max_steps'?)"),
    ("train --outcomes x", "policy 'value' was removed; use 'prior'"),
    ("train", "set exactly one of the two"),
    ("train --config absent.yaml", "recipe absent.yaml cannot be read"),
    ("train --task ioi --learning_rate fast", "invalid float value: 'fast'"),
    ("train --task ioi --lr_scheduler_type linaer", "invalid choice: 'linaer'"),
    ("train --task ioi --fp16", "fp16=True is not supported"),
    ("train --task io", "unknown task 'io' (did you mean 'ioi'?)"),
    ("train --task ioi --granularity wights", "did you mean 'weights'?"),
    ("train --task ioi --policy forsight", "did you mean 'foresight'?"),
    ("train --task ioi --policy ema", "use policy 'foresight' with forecaster 'smoothing'"),
    ("train --task ioi --policy random --horizon 5", "does not take it"),
    ("train --task ioi --policy_params.watch rotat", "did you mean 'rotate'?"),
    ("train --task ioi --policy_params.watch [", "not valid YAML"),
    ("train --task ioi --scorer atribution", "did you mean 'attribution'?"),
    ("train --task ioi --target cirucit", "did you mean 'circuit'?"),
    ("train --task ioi --forecaster rige", "did you mean 'ridge'?"),
    ("train --task ioi --forecaster forest", "was removed; use 'boosting'"),
    ("train --task ioi --model ./absent", "model ./absent: expected a local folder"),
    ("train --dataset absent.jsonl", "no file or folder 'absent.jsonl'"),
    ("train --dataset /dev/null", "no model is named"),
    ("train --task ioi --output_dir /dev/null/run", "but /dev/null is no folder"),
    ("train --task ioi --report_to swanlab", "report_to is 'swanlab', which is not installed"),
    ("train --task ioi --push_to_hub true", "HF_HUB_OFFLINE turns the Hub off"),
    ("train --task ioi --history absent", "history is 'absent', which does not exist"),
    ("train --task ioi --deepspeed absent.json", "deepspeed is 'absent.json', which does not exist"),
    ("train --task ioi --policy oracle --policy_params.oracle_trajectory absent", "oracle_trajectory is 'absent'"),
    ("train --task ioi --policy replay --policy_params.mask_schedule absent", "mask_schedule is 'absent'"),
    ("plan --budget 2", "budget is 2.0"),
    ("compare --arms foresigt", "unknown arm 'foresigt' (did you mean 'foresight'?)"),
    ("compare --forecaster rige", "did you mean 'ridge'?"),
    ("compare --target_tasks io", "did you mean 'ioi'?"),
    ('compare --training {"bf61":true}', "unknown setting 'bf61' (did you mean 'bf16'?)"),
    ("demo --models ./absent", "model ./absent: expected a local folder"),
    ("track --task ioi --strategies fre", "did you mean 'free'?"),
    ("track --task ioi --policy random", "strategies says how masks are chosen"),
    ("evidence --behaviour io", "did you mean 'ioi'?"),
    ("evidence --localizers probez", "did you mean 'probes'?"),
    ('evidence --training {"betta":1}', "unknown setting 'betta' (did you mean 'beta'?)"),
    ("export absent --to delta --out x", "absent does not exist"),
    ("export . --to merge --out x", "did you mean 'merged'?"),
    ("components ./absent", "model ./absent: expected a local folder"),
    ("report absent", "absent does not exist; expected a folder of `foresight compare`"),
    ("forecasters check rige", "did you mean 'ridge'?"),
    ("forecasters bench rige", "did you mean 'ridge'?"),
    ("forecasters bench --runs absent", "absent does not exist; expected recorded runs"),
]


@pytest.fixture(scope="module")
def answers(tmp_path_factory):
    """Exit code, what was said, seconds with those of the start, and heavy modules imported by then, by words."""
    words = [words for words, _ in WRONG]
    command = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        command, input=json.dumps(words), capture_output=True, text=True, cwd=tmp_path_factory.mktemp("elsewhere"),
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return dict(zip(words, json.loads(done.stdout), strict=True))


@pytest.mark.parametrize(("words", "problem"), WRONG, ids=[words for words, _ in WRONG])
def test_wrong_words_are_answered_at_once(answers, words, problem):
    code, said, seconds, heavy = answers[words]
    assert code == 2 and problem in said and heavy == []
    assert said.startswith("foresight: error: ") and said.count("\n") == 1
    assert seconds < SECONDS


@pytest.mark.parametrize("name", ["SFTConfig", "DPOConfig"])
def test_trl_settings_read_from_source_are_those_of_the_class(name):
    import trl

    found, expected = trl_settings(name), settings_of(getattr(trl, name))
    assert list(found) == list(expected)
    for key, setting in expected.items():
        assert found[key].default in (setting.default, ...)  # what the source computes is not known
        assert found[key].help in (setting.help.replace("%%", "%"), "")
        for kind in (str, int, float, bool, list, dict, type(None)):
            assert found[key].accepts(kind) == setting.accepts(kind), (key, kind)


def test_trl_settings_without_source_code_come_from_the_class(monkeypatch):
    expected = list(trl_settings())
    trl_settings.cache_clear()
    monkeypatch.setattr("foresight.commands.fields.find_spec", lambda name: None)
    assert list(trl_settings()) == expected
    trl_settings.cache_clear()


def test_schema_knows_every_setting_and_refuses_others(cli):
    assert json.loads(cli("train", "--schema")[1]) == json.loads(json.dumps(schema("train")))
    found = schema("train")
    assert set(NAMES) < set(command_settings("train")) < set(found["properties"])
    assert found["additionalProperties"] is False
    assert found["properties"]["budget"] | {"description": ""} == {"type": "number", "default": 0.05, "description": ""}
    params = found["properties"]["policy_params"]
    assert params["additionalProperties"] is False and "rotate" in params["properties"]["watch"]["enum"]
    assert found["properties"]["policy_params.watch"] == params["properties"]["watch"]
    assert "tasks" in schema("track")["properties"] and "arms" in schema("compare")["properties"]
