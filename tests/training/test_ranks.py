import json
import os
import re
import time

import pytest
import torch.distributed as dist
from torch import nn

from foresight.bank.zero import ZeroPlacement, await_build
from foresight.common.errors import ConfigError, RankError
from foresight.training.config import ForesightConfig
from foresight.training.masked import refuse
from foresight.training.ranks import _portable, refuse_unequal
from support.processes import run_group

pytestmark = pytest.mark.multi_process
WAIT = 3


def _caught(folder, kind, act):
    try:
        act()
        words = "nothing"
    except kind as error:
        words = str(error)
    (folder / os.environ["RANK"]).write_text(words)


def _unequal(folder):
    dist.init_process_group("gloo")
    rate = 0.01 if os.environ["RANK"] == "1" else 0.001
    _caught(folder, ConfigError, lambda: refuse_unequal({"learning_rate": rate, "seed": 1}, WAIT))
    _caught(folder / "equal", ConfigError, lambda: refuse_unequal({"seed": 1}, WAIT))
    assert ZeroPlacement(nn.Linear(1, 1), timeout=WAIT).largest(75 * int(os.environ["RANK"])) == 75


def test_every_rank_is_told_which_one_differs_and_how(tmp_path):
    (tmp_path / "equal").mkdir()
    assert run_group(_unequal, 2, tmp_path) == [0, 0]
    for rank in "01":
        words = (tmp_path / rank).read_text()
        assert "rank 1 was not started as rank 0 was: learning_rate is 0.01, not 0.001. " in words
        assert (tmp_path / "equal" / rank).read_text() == "nothing"


def _late(folder):
    dist.init_process_group("gloo")
    refuse_unequal({}, WAIT)  # both are there
    if os.environ["RANK"] == "1":
        time.sleep(2 * WAIT)
    _caught(folder, RankError, lambda: refuse_unequal({}, WAIT))


def test_a_rank_that_does_not_come_is_named_after_the_time_limit(tmp_path):
    run_group(_late, 2, tmp_path)
    words = (tmp_path / "0").read_text()
    assert re.search(r"rank 0 waited for the other ranks in vain .*1.* failed to pass monitoredBarrier", words), words
    assert "ddp_timeout, 3 seconds" in words


def _settings(folder, change):
    rank = int(os.environ["RANK"])
    zero = folder / f"host-{rank}" / "zero.json"  # each host has its own copy
    zero.parent.mkdir(exist_ok=True)
    zero.write_text(json.dumps({"zero_optimization": {"stage": 2}, "train_micro_batch_size_per_gpu": "auto"}))
    args = ForesightConfig(
        output_dir=str(zero.parent / "run"), use_cpu=True, bf16=False, report_to="none", deepspeed=str(zero),
        **(change if rank else {}),
    )  # fmt: skip
    _caught(folder, ConfigError, lambda: refuse(args, {}))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({}, "nothing"),
        ({"learning_rate": 0.1}, "rank 1 was not started as rank 0 was: learning_rate is 0.1, not "),
        ({"max_steps": 7}, "max_steps is 7, not -1"),
        ({"policy_params": {"watch_steps": 9}}, "policy_params is {'watch_steps': 9}, not None"),
    ],
)
def test_settings_of_ranks_are_compared_before_any_work(change, told, tmp_path):
    assert run_group(_settings, 2, tmp_path, change) == [0, 0]
    for rank in "01":
        assert told in (tmp_path / rank).read_text()


def test_a_lock_that_a_killed_compiler_left_is_recognised(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCH_EXTENSIONS_DIR", str(tmp_path))
    await_build("cpu_adam")  # nothing compiles
    lock = tmp_path / "cpu_adam" / "lock"
    lock.parent.mkdir()
    lock.touch()
    os.utime(lock, (time.time() - 3600,) * 2)
    with pytest.raises(ConfigError, match=r"lock is 60 minutes old: .* remove the folder"):
        await_build("cpu_adam")


def test_paths_may_lie_elsewhere_on_each_host_and_other_words_may_not(tmp_path):
    file = tmp_path / "one" / "run.json"
    file.parent.mkdir()
    file.touch()
    assert _portable({"history": [str(file)], "scorer": "a/b"}) == {"history": ["run.json"], "scorer": "a/b"}
