"""The page of a tracked study: whole, self-contained, escaped, and its sentences follow the numbers."""

import base64
import json
import re
from html.parser import HTMLParser

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from foresight.common.errors import TrajectoryError
from foresight.common.numbers import MINUS, number
from foresight.report.tracking import areas, mapped, render, write_report
from foresight.report.tracking_maps import ScoreMap, read_map
from foresight.studies.track.analysis import NAMES
from foresight.studies.track.answers import answer
from foresight.studies.track.tables import Track, between_rows, distance_rows, score_table, staleness_rows
from foresight.studies.track.words import decided, questions, spread
from support.planted import make_table

TABLE = make_table(layers=2, heads=4, blocks=4)
TASKS = ("ioi", "gender", "boolean")
SECTIONS = ("answers", "distance", "staleness", "stability", "faithfulness", "conflict", "heatmaps", "components",
            "strategies", "cost", "definitions", "data")  # fmt: skip
STILL = {"all": 0.0, "head": 0.0, "mlp": 0.0}
NOISE = {name: 0.05 * i for name, i in zip(TASKS, (-1, 0, 1), strict=True)}
EVIL = '<script>alert("x")</script>'


class Reader(HTMLParser):
    """Text, tags, section ids, images with their alternatives, and every attribute that makes a browser fetch."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.tags, self.ids, self.alts, self.links = "", [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append(tag)
        self.ids += [found["id"]] if "id" in found else []
        self.alts += [found.get("alt")] if tag == "img" else []
        self.links += [found[name] for name in ("src", "href", "srcset", "action", "data", "poster") if name in found]

    def handle_data(self, data):
        self.text += data


# -- planted tables ---------------------------------------------------------------------------------------------------


def study_tables(moved=STILL, lost=0.0, gains=(0.0, 0.0), conflict=0.2, tasks=TASKS, steps=(10, 20), ratio=1.0):
    """Two strategies, two seeds of some tasks; excess of every kind, what the map lost, and accuracies as given."""
    found = {name: [] for name in NAMES}
    for strategy, gain in zip(("free", "mech"), gains, strict=True):
        for task in tasks:
            for seed in (1, 2):
                run = {"task": task, "strategy": strategy, "seed": seed}
                labels = run | {"circuit_of": task, "scorer": "attribution"}
                add_run(found, run, labels, moved, lost, steps, ratio)
                at_end = gain + NOISE[task] * (strategy == "mech")
                found["metrics"] += [run | {"step": step, "measured_task": task, "accuracy": 0.5 + at_end * (step > 0),
                                            "loss": 1.0} for step in (0, *steps)]  # fmt: skip
                found["cost"].append(run | {"seconds": 8.0, "tracking_seconds": 2.0, "replay_seconds": 0.0,
                                            "tracking_share": 0.25, "trainable": 1000, "error": None})  # fmt: skip
            found["between"] += [
                {"task": task, "strategy": strategy, "circuit_of": task, "scorer": "attribution", "step": step,
                 "kind": kind, "measure": measure, "between_runs": 0.3, "pairs": 1}
                for step in steps for kind in moved for measure in ("jaccard", "wasserstein")]  # fmt: skip
    base = {"task": None, "strategy": None, "seed": None}
    for a, b in (("ioi", "gender"), ("ioi", "boolean")):
        found["signs"].append(base | {"task_a": a, "task_b": b, "value": conflict, "low": 0.1, "high": 0.9,
                                      "floor": 0.25, "floor_high": 0.5, "shared": 4, "opposed": []})  # fmt: skip
        found["boolean"] += [base | {"dropped": x, "kept": y, "distance": 3, "normalised": 0.5, "common": 6,
                                     "proven": True, "nodes": []} for x, y in ((a, b), (b, a))]  # fmt: skip
    return found


def add_run(found, run, labels, moved, lost, steps, ratio):
    noise, floors = NOISE[run["task"]], {"floor": 0.4, "floor_high": 0.6}
    for step in steps:
        found["distance"] += [
            labels | floors | {"since": "start", "from_step": 0, "step": step, "kind": kind, "measure": measure,
                               "value": min(1.0, 0.4 + excess), "low": 0.3, "high": 0.8,
                               "excess": excess + noise * (2 if kind == "head" else 1)}
            for kind, excess in moved.items() for measure in ("jaccard", "wasserstein")]  # fmt: skip
    for step in (0, *steps):
        gone = (lost + noise) * (step > 0)
        found["staleness"].append(labels | {
            "step": step, "overlap": 0.7, "low": 0.5, "high": 0.9, "across": 0.8 - gone, "ceiling": 0.8, "chance": 0.1,
            "lost": gone, "held": 1 - gone / 0.7})  # fmt: skip
        measured = {"ratio": ratio + noise if step else 1.0, "rank_distance": 0.1, "faithfulness": 0.02}
        for measure, value in measured.items():
            found["stability"].append(labels | floors | {"s": 0, "t": step, "measure": measure, "value": value,
                                                         "low": 0.0, "high": 2.0})  # fmt: skip
    curve = {"size": 2, "low": 0.2, "high": 1.0}
    curve |= {"circuit_of": run["task"], "value": 0.6}
    found["curves"] += [run | curve | {"measure": measure, "fraction": fraction}
                        for measure, fraction in
                        (("faithfulness", 0.1), ("faithfulness", 1.0), ("cpr", None), ("cmd", None))]  # fmt: skip


def one_track(steps=(0, 10)) -> Track:
    """A run whose first two components matter at step 0, the next two later."""
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.normal(size=(len(steps), 12, len(TABLE)))
    samples[0, :, :2] += 5
    samples[1:, :, 2:4] += 5
    labels = {"task": "ioi", "strategy": "free", "seed": 1, "circuit_of": "ioi", "scorer": "attribution"}
    return Track(labels, steps, samples, 2, TABLE.layer, TABLE.kind, TABLE.name)


def one_cell(steps=(0, 10)):
    """Tables of a study of one run, by the functions that make them; no edges, no conflict, no faithfulness."""
    track = one_track(steps)
    labels = {"task": "ioi", "strategy": "free", "seed": 1}
    found = {name: [] for name in NAMES}
    found["distance"], found["staleness"] = distance_rows(track), staleness_rows(track)
    found["between"] = between_rows([track])
    found["cost"] = [labels | {"seconds": 4.0, "tracking_seconds": 1.0, "replay_seconds": 0.0, "tracking_share": 0.25,
                               "trainable": 10, "error": None}]  # fmt: skip
    return found


def written(folder, tables, scores=None):
    """A study's folder as `foresight track` leaves it."""
    (folder / "analysis").mkdir(parents=True)
    for name, rows in tables.items():
        pq.write_table(pa.Table.from_pylist(rows), folder / "analysis" / f"{name}.parquet")
    if scores is not None:
        pq.write_table(scores, folder / "analysis" / "scores.parquet")
    (folder / "study.json").write_text(json.dumps({"track": {"seeds": 1, "also": None}, "training": {"budget": 0.1}}))
    run = folder / "runs" / "ioi-free-1"
    run.mkdir(parents=True)
    (run / "result.json").write_text(json.dumps({"environment": {"torch": "2.0"}}))
    return folder


def said(title, **planted) -> str:
    """The answer to a question, all its lines."""
    tables = study_tables(**planted)
    (asked,) = [q for q in questions(answer(tables)) if title in q.title]
    return " | ".join(f"{line.who}: {line.verdict}. {line.numbers}" for line in asked.lines)


# -- the page ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def full() -> str:
    track = one_track()
    scores = ScoreMap("ioi (free, seed 1)", np.array(track.steps), track.layer, track.kind, track.name,
                      track.samples.mean(1), track.samples.std(1), np.abs(track.samples.mean(1)) > 1)  # fmt: skip
    return render(study_tables(tasks=TASKS[:2]), [scores], {"track": {"seeds": 2}}, {"torch": "2.0"})


@pytest.fixture(scope="module")
def single(tmp_path_factory) -> str:
    folder = written(tmp_path_factory.mktemp("study"), one_cell(), score_table(one_track()))
    assert write_report(folder) == folder / "report.html"
    return (folder / "report.html").read_text()


def test_every_section_is_there(full, single):
    for html in (full, single):
        assert set(SECTIONS) <= set(Reader(html).ids)
    assert len(Reader(full).alts) == 8 and "ot measured, " not in Reader(full).text


def test_what_was_not_measured_is_named(single):
    text = Reader(single).text
    assert "Conflict was not measured" in text and "Not measured: it needs edges" in text
    assert "One strategy" not in text and "No run was evaluated" in text
    assert "one unit" in text and "There is nothing to compare" in text
    assert len(Reader(single).alts) == 5


def test_the_page_needs_nothing_else(full):
    reader = Reader(full)
    assert not {"script", "link", "iframe", "object", "embed"} & set(reader.tags)
    assert reader.links and all(link.startswith("data:image/svg+xml;base64,") for link in reader.links)
    assert not re.search(r"url\(|@import|https?://", re.sub(r"data:[^\"]*", "", full))
    for link in reader.links:
        svg = base64.b64decode(link.partition(",")[2]).decode()
        found = re.findall(r'(?:href|src)="([^"]*)"', svg)
        assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in found)


def test_figures_are_told_in_words(full, single):
    for html in (full, single):
        alts = Reader(html).alts
        assert all(alt and len(alt) > 40 for alt in alts) and len(set(alts)) == len(alts)


def test_answers_come_before_every_figure(full):
    assert 0 < full.index("Do circuits move beyond noise?") < full.index("<figure>")


def test_both_colour_schemes(full):
    assert "prefers-color-scheme: dark" in full and "color-scheme: light dark" in full


def test_text_from_outside_is_escaped():
    tables = {name: [] for name in NAMES}
    tables["cost"] = [{"task": EVIL, "strategy": EVIL, "seed": 1, "seconds": 1.0, "tracking_seconds": 0.0,
                       "replay_seconds": 0.0, "tracking_share": 0.0, "trainable": 0, "error": EVIL}]  # fmt: skip
    html = render(tables, [], {EVIL: {EVIL: EVIL}}, {EVIL: EVIL})
    assert "<script" not in html and html.count("&lt;script&gt;") >= 8
    text = Reader(html).text
    assert "Failed runs" in text and "No run has two snapshots" in text
    assert set(SECTIONS) <= set(Reader(html).ids)


def test_one_snapshot_says_nothing_of_movement(tmp_path):
    tables = one_cell(steps=(0,))
    folder = written(tmp_path / "study", tables, score_table(one_track(steps=(0,))))
    text = Reader(write_report(folder).read_text()).text
    assert "No run has two snapshots, so no distance" in text
    assert "nothing can enter or leave" in text


def test_a_study_that_was_not_analysed_is_refused(tmp_path):
    with pytest.raises(TrajectoryError, match="cannot be read"):
        write_report(tmp_path)
    folder = written(tmp_path / "study", one_cell(), score_table(one_track()))
    (folder / "study.json").unlink()
    with pytest.raises(TrajectoryError, match="no complete study"):
        write_report(folder)


# -- sentences follow the numbers -------------------------------------------------------------------------------------


def test_nothing_moves_is_within_the_noise():
    assert said("move beyond").count("within the noise.") == 2
    assert "difference is within the noise" in said("heads")
    assert said("stale").count("what was lost is within the noise") == 2
    assert "within the noise" in said("still explain")
    assert "None is shown to be the best" in said("learned best")
    assert "within the noise. None of 2 pairs" in said("conflict")


def test_movement_beyond_noise_is_said_with_its_floors():
    text = said("move beyond", moved={"all": 0.4, "head": 0.4, "mlp": 0.4})
    assert "free: moved beyond noise" in text and "within the noise" not in text
    assert "from step 0 is 0.80" in text and "differ by 0.40" in text and "in their seed by 0.30" in text
    assert "+0.40 [+0.28, +0.52]" in text and "6 of 6 runs" in text


@pytest.mark.parametrize(("kind", "verdict"), [("head", "heads moved more"), ("mlp", "MLP blocks moved more")])
def test_the_kind_that_moves_is_named(kind, verdict):
    text = said("heads", moved=STILL | {kind: 0.4})
    assert text.count(verdict) == 2 and ("+0.40" if kind == "head" else f"{MINUS}0.40") in text


def test_staleness_is_told_at_each_step():
    text = said("stale", lost=0.35, steps=(10, 20, 30))
    assert "stale beyond noise" in text
    for step in (10, 20, 30):
        assert f"step {step}: 50% still holds (lost +0.35 [" in text
    assert "a fresh map reaches 0.80, chance 0.10" in text
    many = said("stale", steps=tuple(range(10, 200, 10)))
    assert "step 190:" in many and many.count("% holds") <= 12


def test_an_old_circuit_that_explains_less_is_told():
    text = said("still explain", ratio=0.3)
    assert "worse than the circuit of its own step" in text and "0.30 times as faithful" in text


def test_a_ratio_of_circuits_that_explain_nothing_is_called_undefined():
    text = said("still explain", ratio=np.nan)
    assert "undefined" in text and "a faithfulness of 0.02" in text and "times as faithful" not in text


def test_the_best_strategy_is_named_only_if_decided():
    assert "mech learned best" in said("learned best", gains=(0.0, 0.2))
    assert "free learned best" in said("learned best", gains=(0.2, 0.0))


def test_no_verdict_from_few_units_that_agree_exactly():
    row = {"mean": 0.4, "interval_low": 0.4, "interval_high": 0.4, "decided": 0}
    assert "too few" in decided(row, "above", "below", "noise")
    assert decided(row | {"mean": 0.0, "interval_low": 0.0, "interval_high": 0.0}, "above", "below", "noise") == "noise"


def test_conflict_beyond_its_floor_is_counted():
    text = said("conflict", conflict=0.7)
    assert "2 of 2 pairs conflict beyond noise" in text and "0.70 [0.10, 0.90]" in text and "95 % below 0.50" in text


def test_one_run_gives_no_verdict():
    lines = [line for question in questions(answer(one_cell())) for line in question.lines]
    moved = lines[0]
    assert "cannot establish" in moved.verdict and "no interval" in moved.numbers


# -- components -------------------------------------------------------------------------------------------------------


def test_what_enters_and_leaves_is_split_by_noise():
    score = np.array([[5.0, 3.0, 1.0, 0.0], [5.0, 0.9, 1.1, 0.0], [0.0, 0.9, 1.1, 5.0]])
    inside = np.array([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 1, 1]], bool)
    scores = ScoreMap("ioi", np.arange(3), np.zeros(4, int), np.full(4, "head"), np.array(list("abcd")), score,
                      np.full((3, 4), 0.2), inside)  # fmt: skip
    assert scores.margin[1].tolist() == pytest.approx([20, -0.5, 0.5, -5])
    assert "1 entered beyond noise (d) and 1 within it; 1 left beyond noise (a) and 1 within it" in scores.words


def test_scores_are_read_as_they_were_written(tmp_path):
    track = one_track()
    pq.write_table(score_table(track), tmp_path / "scores.parquet")
    found = read_map(tmp_path / "scores.parquet", task="ioi", strategy="free", seed=1, scorer="attribution")
    assert np.allclose(found.score, track.samples.mean(1), atol=1e-6) and found.steps.tolist() == [0, 10]
    assert found.name.tolist() == TABLE.name.tolist() and found.kind.tolist() == TABLE.kind.tolist()
    assert [set(found.name[row]) for row in found.inside] == [set(TABLE.name[:2]), set(TABLE.name[2:4])]
    assert f"2 entered beyond noise ({', '.join(TABLE.name[2:4])})" in found.words


def test_the_free_run_of_the_first_seed_is_shown():
    assert [tuple(run.values()) for run in mapped(study_tables())] == [(t, "free", 1, "attribution") for t in TASKS]


def test_areas_are_before_training_and_by_strategy():
    tables = study_tables()
    tables["curves"] += [{"task": None, "strategy": None, "seed": None, "circuit_of": "ioi", "measure": "cpr",
                          "size": None, "fraction": None, "value": 0.9, "low": 0.8, "high": 1.0}]  # fmt: skip
    found = {row["model"]: row for row in areas(tables["curves"])}
    assert found["before training"]["cpr"]["mean"] == 0.9 and found["free"]["cpr"]["mean"] == pytest.approx(0.6)
    assert found["before training"]["cmd"]["mean"] is None


def test_numbers_have_a_minus_and_no_negative_zero():
    assert number(-0.001) == "0.00" and number(-0.5) == f"{MINUS}0.50" and number(float("nan")) == number(None)
    row = {"mean": 0.1, "interval_low": None, "interval_high": None}
    assert spread(row) == "+0.10 (one unit, no interval)"
