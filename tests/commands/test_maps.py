"""`foresight maps`: small files of other runs, which later runs of the same model begin with."""

import pytest

from foresight.forecasters.single_weights.margins import is_map
from support.runs import run
from support.tiny import tiny

FINE = dict(granularity="weights", policy="foresight", budget=0.05, contrast=False)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A model folder, and two earlier runs of it."""
    root = tmp_path_factory.mktemp("made")
    tiny().save_pretrained(root / "model")
    for name, seed in (("one", 1), ("two", 2)):
        run(root / name, policy="full", contrast=False, learning_rate=3e-3, seed=seed)
    return root


def test_a_folder_of_maps_stands_for_the_runs_that_they_were_made_of(made, tmp_path, cli):
    code, out, _ = cli("maps", str(made / "one"), str(made / "two"), "--model", str(made / "model"), "--out",
                       str(tmp_path / "maps"))  # fmt: skip
    files = sorted((tmp_path / "maps").iterdir())
    assert code == 0 and [file.name for file in files] == ["one.safetensors", "two.safetensors"]
    assert all(is_map(file) and file.name in out and file.stat().st_size < 50_000 for file in files)
    by_maps = run(tmp_path / "a", **FINE, maps=str(tmp_path / "maps"))
    by_runs = run(tmp_path / "b", **FINE, maps=[str(made / "one"), str(made / "two")])
    assert by_maps.schedule == by_runs.schedule and len(by_maps.policy.shares) == 3


@pytest.mark.parametrize(
    ("sources", "model", "words"),
    [
        (
            ["nowhere"],
            "model",
            "nowhere does not exist; expected a run folder, a delta, a PEFT adapter or a checkpoint",
        ),
        (["one"], "nothing", "expected a local folder with a config.json"),
        (["model"], "model", "has moved no weight of the model"),
        (["one", "one"], "model", "would be written over"),
    ],
)
def test_what_cannot_be_a_map_is_refused(made, tmp_path, cli, sources, model, words):
    code, _, error = cli("maps", *(str(made / name) for name in sources), "--model", str(made / model), "--out",
                         str(tmp_path / "maps"))  # fmt: skip
    assert code == 2 and words in error
