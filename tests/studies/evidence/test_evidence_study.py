"""A whole study through its worker processes and the command line, and settings that cannot be used."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file

from foresight.cli import main
from foresight.commands.settings import parse
from foresight.common.errors import ConfigError, DataError
from foresight.common.sealed import read_sealed, write_sealed
from foresight.report.evidence import render, write_evidence
from foresight.studies.evidence.cells import Cell, Measures
from foresight.studies.evidence.outcomes import LORA_ARM, RANDOM, Arm, outcome
from foresight.studies.evidence.settings import EvidenceConfig
from foresight.studies.evidence.study import Plan, random_sets, read_results, run_study
from foresight.studies.evidence.trial import run_cell
from foresight.studies.provenance import cell_key
from support.evidence_cases import many_heads


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model folder with a tokenizer, and preferences."""
    folder = tmp_path_factory.mktemp("evidence")
    model, _, tokenizer = many_heads()
    model.save_pretrained(folder / "model")
    tokenizer.save_pretrained(folder / "model")
    rows = [{"prompt": f"w{i} w{j}", "chosen": " w7", "rejected": " w9"} for i in range(3, 9) for j in range(3, 13)]
    (folder / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def settings(folder, **changes):
    given = dict(
        model=str(folder / "model"), behaviour=str(folder / "own.jsonl"), invert=False, heads=1, draws=2,
        localizers=["probes"], learning_rates=[0.1], strengths=[2.0, 8.0], epochs=1, train_questions=16,
        validation_questions=8, test_questions=8, workers=1,
    )  # fmt: skip
    return EvidenceConfig(**(given | changes))


@pytest.fixture(scope="module")
def out(folder):
    """A finished study, run by the command."""
    (folder / "recipe.yaml").write_text(json.dumps({k: v for k, v in vars(settings(folder)).items() if v is not None}))
    assert main(["evidence", "--config", str(folder / "recipe.yaml"), "--out", str(folder / "out")]) == 0
    return folder / "out"


def test_study_runs_from_the_command_line_and_leaves_its_results(out):
    config, evidence, versions = read_results(out)
    assert (config.heads, config.draws) == (1, 2) and versions["code"]
    assert {method: len(found) for method, found in evidence.outcomes.items()} == {"edit": 5, "iti": 4}
    assert [gap.finding for gap in evidence.gaps] == ["too few sets"] * 2
    for found in evidence.outcomes["edit"]:
        assert len(found.answers) == 8 and found.failed == 0 and found.best.kl >= 0
    assert max(o.best.kl for o in evidence.outcomes["edit"]) > 1e-3
    assert len(evidence.outcomes["iti"][0].points) == 2
    edits = [json.loads(p.read_text()) for p in (out / "runs").glob("*/result.json")]
    assert sum((out / "runs" / r["key"] / "edit.safetensors").exists() for r in edits) == 4
    page = (out / "report.html").read_text()
    assert "Does the location matter?" in page and page.count("data:image/svg+xml") == 2


def test_what_edits_share_is_computed_once_and_changes_nothing(out, tmp_path):
    """One record of the reference and one of the heads' outputs; a cell that finds no reference computes the same."""
    records = [json.loads(p.read_text()) for p in (out / "runs").glob("*/result.json")]
    of = {method: [r for r in records if r["cell"]["method"] == method] for method in ("reference", "outputs", "edit")}
    assert (len(of["reference"]), len(of["outputs"]), len(of["edit"])) == (1, 1, 4)
    cell = Cell(**of["edit"][0]["cell"])
    assert cell_key(cell.shared) == of["reference"][0]["key"]
    (tmp_path / "alone").mkdir()
    alone = run_cell(cell, tmp_path / "alone")
    assert alone.answers == of["edit"][0]["measures"]["answers"] and alone.own_kl == of["edit"][0]["measures"]["own_kl"]
    edits = [load_file(where / "edit.safetensors") for where in (tmp_path / "alone", out / "runs" / cell_key(cell))]
    assert all(torch.equal(edits[0][name], value) for name, value in edits[1].items())


def test_a_task_that_the_tokenizer_cannot_spell_is_refused_before_anything_runs(folder, tmp_path):
    for changes in ({"behaviour": "greater_than"}, {"retained_tasks": ["order"]}):
        with pytest.raises(DataError, match="task '.*; use another tokenizer, or a task that it can spell: none"):
            run_study(tmp_path, settings(folder, **changes))
    assert not list(tmp_path.iterdir())


def test_a_finished_study_runs_nothing_again(out, folder):
    before = {p: p.stat().st_mtime_ns for p in (out / "runs").glob("*/result.json")}
    results = json.loads((out / "results.json").read_text())
    assert main(["evidence", "--config", str(folder / "recipe.yaml"), "--out", str(out)]) == 0
    assert {p: p.stat().st_mtime_ns for p in (out / "runs").glob("*/result.json")} == before
    assert json.loads((out / "results.json").read_text()) == results


def test_page_escapes_what_it_is_given(out):
    config, evidence, versions = read_results(out)
    object.__setattr__(config, "behaviour", "<script>")
    assert "<script>" not in render(config, evidence, versions)


def test_recorded_results_can_be_read():
    recorded = Path(__file__).parents[3] / "eval" / "results" / "evidence"
    config, evidence, versions = read_results(recorded)
    assert set(evidence.outcomes) == set(config.methods) and evidence.sentences and versions["torch"]


def test_results_of_another_kind_are_refused(tmp_path):
    (tmp_path / "results.json").write_text('{"schema": 0}')
    for folder, match in ((tmp_path, "another schema"), (tmp_path / "none", "not the result of a study")):
        with pytest.raises(DataError, match=match):
            write_evidence(folder)


def test_plan_has_the_same_cells_for_every_set(folder):
    plan = Plan(settings(folder, taus=[0.1, 0.3], learning_rates=[0.1, 0.2], seeds=2))
    arms = [Arm("a", "localized", (("L0.head.1",), ("L2.head.0",))), Arm("r", RANDOM, (("L1.head.1",),) * 2)]
    for method, n in (("edit", 8), ("iti", 4)):
        first, second = (
            [(p, c.seed, c.settings.get("learning_rate")) for p, c in plan.cells_of(method, arm)] for arm in arms
        )
        assert first == second and len(first) == n
    lora = [cell for _, cell in plan.cells_of("edit", Arm("lora", LORA_ARM, ((), ())))]
    assert {cell.method for cell in lora} == {"lora"} and "heads" not in lora[0].settings


def test_equal_sets_of_heads_are_one_cell(folder):
    plan = Plan(settings(folder, heads=2))
    pairs = (("L0.head.1", "L1.head.2"), ("L1.head.2", "L0.head.1"))
    (a,), (b,) = (
        [cell for _, cell in plan.cells_of("edit", Arm(n, RANDOM, (h,)))] for n, h in zip("ab", pairs, strict=True)
    )
    assert a == b


def test_random_sets_are_distinct_and_all_of_them_where_there_are_few():
    heads = [f"L0.head.{i}" for i in range(6)]
    assert random_sets(heads, 1, 24) == [(head,) for head in heads]
    found = random_sets(heads, 3, 15)
    assert len(set(found)) == len(found) == 15 and all(len(set(chosen)) == 3 for chosen in found)
    assert found == random_sets(heads, 3, 15)


def test_a_set_without_a_finished_setting_has_no_outcome():
    failed = [SimpleNamespace(measures=None)]
    assert outcome(Arm("a", RANDOM, (("h",),)), {(0.1, 0.1): failed}, "choice") is None


def test_settings_are_chosen_on_validation_questions_and_within_the_divergence():
    def run(validation, test, kl):
        one = Measures(validation={"choice": validation}, test={"choice": test}, answers={"choice": [test] * 4}, kl=kl)
        return [SimpleNamespace(measures=one)]

    runs = {(0.1, 0.1): run(0.5, 0.9, 0.2), (0.1, 0.3): run(0.6, 0.7, 2.0), (0.1, 1.0): run(0.6, 0.8, 1.0)}
    arm = Arm("a", RANDOM, (("h",),))
    for most, value in ((None, 1.0), (0.5, 0.1), (0.1, 0.1)):
        found = outcome(arm, runs, "choice", most)
        assert found.best.value == value and len(found.points) == 3
    assert outcome(arm, runs, "choice").answers == (0.8,) * 4


@pytest.mark.parametrize(
    "changes, match",
    [
        ({"heads": 0}, "heads is 0"),
        ({"draws": 0}, "draws is 0"),
        ({"taus": []}, "taus is empty"),
        ({"taus": [0.0]}, "above 0"),
        ({"methods": ["edti"]}, "did you mean 'edit'"),
        ({"read": "head"}, "did you mean 'heads'"),
        ({"effect": "choices"}, "did you mean 'choice'"),
        ({"effect": "judge"}, "set judge"),
        ({"effect": "classifier"}, "classifier: true"),
        ({"judge": "nowhere:judge"}, "importing 'nowhere' failed"),
        ({"localizers": ["probe"]}, "did you mean 'probes'"),
        ({"localizers": ["probes", "probes"]}, "twice"),
        ({"localizers": [{"like": "probes"}]}, "with name"),
        ({"behaviour": "greater"}, "did you mean 'greater_than'"),
        ({"retained_tasks": ["docstrings"]}, "did you mean 'docstring'"),
        ({"training": "bf16"}, "not JSON"),
        ({"epochs": 0.0}, "epochs is 0"),
    ],
)
def test_settings_that_cannot_be_used(changes, match):
    with pytest.raises(ConfigError, match=match):
        EvidenceConfig(**changes)


def test_more_heads_than_the_model_has(folder):
    with pytest.raises(ConfigError, match="model has 24"):
        Plan(settings(folder, heads=24))


def test_a_field_of_training_that_there_is_not(folder):
    with pytest.raises(ConfigError, match="unknown field of training 'learning_rte'.*did you mean 'learning_rate'"):
        Plan(settings(folder, training={"learning_rte": 1.0}))


def test_a_localizer_of_ones_own_with_settings():
    chosen = EvidenceConfig(localizers=["probes", {"name": "mine", "like": "given", "heads": ["L0.head.1"]}]).chosen()
    assert chosen == {"probes": ("probes", {}), "mine": ("given", {"heads": ["L0.head.1"]})}


def test_recipes_are_the_defaults_and_the_published_protocol():
    recipes = Path(__file__).parents[3] / "recipes" / "evidence"
    assert parse(recipes / "demo.yaml", [], (EvidenceConfig,)) == (EvidenceConfig(),)
    (published,) = parse(recipes / "truthfulqa.yaml", [], (EvidenceConfig,))
    assert (published.heads, published.epochs, published.batch_size) == (16, 2, 1)
    assert published.taus == [0.1, 0.2, 0.3, 0.4, 0.5] and published.learning_rates == [1e-4, 5e-4, 2e-3]
    (shrunk,) = parse(recipes / "truthfulqa-100.yaml", [], (EvidenceConfig,))
    assert shrunk.train_questions + shrunk.validation_questions + shrunk.test_questions == 100
    for name in ("invert", "retained_tasks", "heads", "draws", "localizers", "methods", "read", "effect", "seeds"):
        assert getattr(shrunk, name) == getattr(published, name)


def test_a_page_of_recorded_results_imports_nothing_that_they_name(out, tmp_path, monkeypatch):
    (tmp_path / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\ndef judge(*_): return 1.0\n")
    monkeypatch.chdir(tmp_path)
    data = read_sealed(out / "results.json")
    data["config"]["judge"] = "planted:judge"
    write_sealed(tmp_path / "results.json", data)
    with pytest.raises(DataError, match="cannot be used here: .* is named by a file"):
        write_evidence(tmp_path)
    assert not (tmp_path / "ran").exists()
