"""kill -9 of one of two processes, re-masks included: the resumed run is the uninterrupted one, at any world size."""

import random
import shutil

import pytest
import torch
from safetensors.torch import load_file

import support.zero_run as zero_run
from foresight.training import checkpoint
from foresight.training.export import export
from support.processes import run_group
from support.same_run import same_delta, same_run
from support.tiny import tiny

pytest.importorskip("deepspeed")
pytestmark = pytest.mark.multi_process

INSIDE_A_REMASK = ("change_state", "change_values")


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("base")
    tiny().save_pretrained(folder)
    return folder


def go(world, folder, base, stage, *more):
    return run_group(zero_run.main, world, str(folder), str(base), str(stage), *map(str, more))


@pytest.mark.timeout(900)
@pytest.mark.parametrize("times", [4, pytest.param(20, marks=pytest.mark.slow)])
def test_a_process_killed_again_and_again(tmp_path, base, times):
    """Of each run, first inside a re-mask, then at random moments."""
    save = ("--save-steps", 1)
    whole, never = {}, 10**9
    for stage in (2, 3):
        whole[stage] = tmp_path / f"whole{stage}"
        assert go(2, whole[stage], base, stage, *save, "--die-at", never, "--die-rank", 0) == [0, 0]
    events = {stage: (tmp_path / f"whole{stage}-events").read_text().splitlines() for stage in whole}
    chance, kills, runs = random.Random(0), 0, 0
    while kills < times or runs < 2:
        stage, folder = (2, 3)[runs % 2], tmp_path / f"killed{runs}"
        runs += 1
        codes = None
        while codes != [0, 0]:
            resume = checkpoint.last_complete(folder) is not None
            if not resume:
                shutil.rmtree(folder, ignore_errors=True)
            if kills == times:  # the last run goes on to its end
                moment = never
            elif resume:
                moment = chance.randint(1, len(events[stage]) // 2)
            else:
                inside = [n for n, name in enumerate(events[stage], 1) if name.split()[-1] in INSIDE_A_REMASK]
                moment = chance.choice(inside[len(inside) // 4 :])  # when there is something to resume from
            victim = kills % 2
            more = ["--resume"] if resume else []
            codes = go(2, folder, base, stage, *save, *more, "--die-at", moment, "--die-rank", victim)
            assert codes == [0, 0] or codes[victim] == -9, codes
            kills += codes != [0, 0]
        same_run(whole[stage], folder)
    died = [line.split(" ", 1) for path in tmp_path.glob("*-died") for line in path.read_text().splitlines()]
    assert len(died) == times and {rank for rank, _ in died} == {"0", "1"} and runs > 1
    assert any(moment.split()[-1] in INSIDE_A_REMASK for _, moment in died)


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ((2, 2), (1, 0)),
        ((1, 0), (2, 3)),
        pytest.param((2, 3), (4, 3), marks=pytest.mark.slow),  # as from one to two
        pytest.param((2, 3), (2, 3), marks=pytest.mark.slow),  # as the killed runs are
        pytest.param((2, 2), (4, 2), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_resume_at_the_same_or_another_world_size(tmp_path, base, alone, before, after):
    """(processes, ZeRO stage) before and after a crash between two re-masks."""
    folder = tmp_path / "run"
    assert any(go(before[0], folder, base, before[1], "--stop", 8))
    assert checkpoint.last_complete(folder).name == "checkpoint-8"
    exported = [export(run / "checkpoint-8", "delta", run.parent / "exported") for run in (alone, folder)]
    same_delta(*exported, 1e-5)
    shutil.rmtree(exported[0])
    assert not any(go(after[0], folder, base, after[1], "--resume"))
    same_run(alone, folder, 1e-5)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("alone") / "run"
    assert go(1, folder, base, 0) == [0]
    assert torch.isfinite(next(iter(load_file(folder / "delta" / "delta.safetensors").values()))).all()
    return folder
