"""The page: whole, self-contained, escaped, with the verdict first, also when runs broke and arms are many."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from foresight.common.errors import DataError
from foresight.common.files import write_json
from foresight.common.sealed import read_sealed, write_sealed
from foresight.report.comparison import pictures, render, write_report
from foresight.report.comparison_figures import (
    MANY,
    PALE,
    Picture,
    frontiers,
    heatmap,
    learning_curves,
    overlap_over_time,
    predicted_against_realised,
    strokes,
)
from foresight.report.style import COLOURS, MARKERS, looks
from foresight.studies.compare.arms import ARMS
from foresight.studies.compare.part import Part
from foresight.studies.compare.settings import CompareConfig
from foresight.studies.compare.study import RESULTS, write_results
from foresight.studies.compare.summary import summarise
from foresight.studies.ledger import RESULT
from foresight.studies.provenance import environment
from foresight.studies.runner import RUNS
from support.synthetic_runs import START, STEPS, comparison, mask, series, settings


def drawn(records, task="gender", arm="foresight") -> Picture:
    scores = series(["gender", "ioi"].index(task))
    found = next((r.measures for r in records if (r.cell.stage, r.cell.task, r.cell.arm) == ("score", task, arm)), None)
    return Picture(
        task,
        1,
        scores,
        found.schedule if found else (),
        mask(scores.values[:, -1], scores.name),
        found.forecast if found else None,
    )


def page(records, config: CompareConfig, circuits=(), versions=None) -> str:
    return render(config, summarise(records, config), records, versions or environment(), circuits)


def part(records, config: CompareConfig) -> Part:
    return Part(records, config, config.budgets[0])


@pytest.fixture(scope="module")
def html() -> str:
    records = comparison(settings(1))
    return page(records, settings(1), [drawn(records)])


@pytest.fixture
def undrawn(monkeypatch):
    """For tests of words and tables: figures are made, and not laid out and written, which takes seconds."""
    monkeypatch.setattr("foresight.report.comparison.data_uri", lambda figure: "data:image/svg+xml;base64,")


class Reader(HTMLParser):
    """Collects text, tags and every attribute that could make a browser fetch something."""

    def __init__(self, html: str):
        super().__init__()
        self.text, self.tags, self.links = "", [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in ("src", "href", "srcset", "action", "data", "poster")]

    def handle_data(self, data):
        self.text += data


def test_the_page_needs_nothing_else(html):
    reader = Reader(html)
    assert not {"script", "link", "iframe", "object", "embed"} & set(reader.tags)
    assert reader.tags.count("img") == len(reader.links) == 6
    assert all(link.startswith("data:image/svg+xml;base64,") for link in reader.links)
    assert not re.search(r"url\(|@import|https?://", re.sub(r"data:[^\"]*", "", html))


def test_figures_inside_refer_to_nothing_outside(html):
    for link in Reader(html).links:
        svg = base64.b64decode(link.partition(",")[2]).decode()
        references = re.findall(r'(?:href|src)="([^"]*)"', svg)
        assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in references)


def test_what_matters_comes_first(html):
    text, verdict = Reader(html).text, summarise(comparison(settings(1)), settings(1)).verdict
    order = [text.index(part) for part in (verdict.sentence, verdict.power, "The primary contrast", "The arms",
                                           "Forgetting at equal target loss", "Task by task", "Learning curves",
                                           "What it cost", "How the arms were tuned", "Versions")]  # fmt: skip
    assert order == sorted(order)


def test_every_arm_has_its_row_and_colour(html):
    for name, arm in settings().chosen.items():
        assert f"<b>{arm.label}</b>" in html and COLOURS[name] in html


def test_looks_of_many_arms_can_be_told_apart():
    found = looks(ARMS)
    assert {name: (look.colour, look.marker) for name, look in found.items() if name in COLOURS} == {
        name: (COLOURS[name], MARKERS[name]) for name in COLOURS
    }
    assert len({look.colour for look in found.values()}) == len(ARMS) >= 25
    assert looks(["full", "mine"])["mine"] == looks(["mine"])["mine"]


def test_text_from_outside_is_escaped(undrawn):
    evil = "<script>alert(1)</script>"
    config = settings(arms=["full", "static", "foresight", {"name": evil, "like": "random", "draws": 1}])
    html = page(comparison(config, fails={evil: evil}), config, versions={"platform": evil})
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3


@pytest.mark.parametrize("arm", ["foresight", "full"])
def test_a_failed_arm_is_shown_as_failed(arm, undrawn):
    config = settings()
    records = comparison(config, fails={arm: "NonFiniteError: the loss became NaN"})
    circuits = [] if arm == "full" else [drawn([])]
    text = Reader(page(records, config, circuits)).text
    assert "Broken runs" in text and "the loss became NaN" in text and "4 failed" in text
    assert f"{ARMS[arm].label}: 4 broken runs (failed), left out of every average." in text


def test_a_comparison_of_which_every_run_failed_has_a_page(undrawn):
    config = settings()
    records = [replace(record, measures=None, error="boom") for record in comparison(config)]
    assert "The comparison is broken" in page(records, config)


def test_one_task_and_seed_shows_no_interval(undrawn):
    config = settings(1, seeds=1)
    html = page(comparison(config), config)
    assert "no certainty" in html
    table = html[html.index('<h2 id="arms"') : html.index('<h2 id="differences"')]
    assert not re.search(r"\[\d", table)


def test_same_records_same_page(html):
    records = comparison(settings(1))
    assert page(records, settings(1), [drawn(records)]) == html


def test_every_budget_and_memory_is_shown(undrawn):
    config = settings(budgets=[0.1, 0.02], memories={"long": {}, "short": {"adam_beta1": 0.8}})
    text = Reader(page(comparison(config), config)).text
    assert "10 % (judged)" in text and "At 2 % of all parameters" in text
    assert "short: adam_beta1 0.8" in text and "long: the defaults" in text


def test_without_retained_tasks_forgetting_is_not_spoken_of(undrawn):
    config = settings(retained_tasks=[])
    records = [
        replace(r, measures=replace(r.measures, curve=tuple(replace(p, retained_loss=None) for p in r.measures.curve)))
        for r in comparison(config)
    ]
    assert "equal target loss" not in Reader(page(records, config)).text


def test_the_heatmap_marks_what_was_trained():
    picture = drawn(comparison())
    boxes = [patch for axis in heatmap(picture).axes for patch in axis.patches]
    assert len(boxes) == sum(len(names) for _, names in picture.schedule)
    ends = {round(box.get_x() + box.get_width()) for box in boxes}
    assert ends == {20, STEPS}


def test_predictions_are_sorted_into_hits_and_misses():
    picture = drawn(comparison(), "ioi")
    (axis,) = predicted_against_realised([picture]).axes
    counted = [len(points.get_offsets()) for points in axis.collections]
    hits = len(set(picture.schedule[-1][1]) & set(picture.realised))
    assert 0 < hits < 6 and f"{hits} of 6 found" in axis.get_title(loc="left")
    assert sum(counted) == len(picture.series)
    assert counted[3] == hits and counted[1] == counted[2] == 6 - hits


def test_overlap_is_counted_in_vectors_at_every_step():
    config, scores = settings(1, seeds=1), series(0)
    records = comparison(config)
    runs = {r.cell.arm: r.measures for r in records if r.cell.stage == "score"}
    vectors = dict(zip(scores.name.tolist(), scores.vectors.tolist(), strict=True))
    figure = overlap_over_time(part(records, config), vectors, 0.1)
    lines = {line.get_label(): line.get_ydata() for line in figure.axes[0].lines}
    assert "Full" not in lines and np.all(np.array(lines["chance"]) == 0.1)
    circuit = set(runs["full"].realised)
    first, second = (
        sum(vectors[name] for name in circuit & set(names)) / sum(vectors[name] for name in circuit)
        for _, names in runs["foresight"].schedule
    )
    assert lines["Foresight"][19] == pytest.approx(first) and lines["Foresight"][20] == pytest.approx(second)


def test_frontiers_end_where_every_run_of_an_arm_got():
    config = settings(1)
    records = comparison(config)
    (axis,) = frontiers(part(records, config)).axes
    lines = {line.get_label(): line for line in axis.lines}
    last = [r.measures.curve[-1].loss for r in records if (r.cell.stage, r.cell.arm) == ("score", "static")]
    x = lines["Static"].get_xdata()
    assert (x[0], x[-1]) == pytest.approx((max(last), START))
    assert np.all(np.diff(lines["Static"].get_ydata()) <= 0)


def test_of_many_arms_only_the_principal_ones_have_a_colour():
    arms = "full random prior static reactive smoothed rotating utility foresight oracle shira lora".split()
    few = settings(1, seeds=1, arms=arms[:MANY], primary_arm="static")
    assert not any(stroke is PALE for stroke in strokes(part(comparison(few), few)).values())
    config = settings(1, seeds=1, arms=arms, primary_against=["static"])
    (axis,) = learning_curves(part(comparison(config), config)).axes
    wanted = {"Foresight", "Static", "Full", "Random", "Oracle"}
    assert {line.get_label() for line in axis.lines if line.get_label()[0] != "_"} == wanted
    assert len(axis.lines) == 12


def test_deleted_trajectories_cost_only_their_pictures(tmp_path, undrawn):
    assert pictures(part(comparison(), settings()), [tmp_path]) == []
    assert "Learning curves" in page(comparison(), settings())


def test_the_report_of_a_folder_is_written_from_its_records(tmp_path, undrawn):
    config, records = settings(1, seeds=1), comparison(settings(1, seeds=1))
    for record in records:
        write_json(tmp_path / "a" / RUNS / record.key / RESULT, record.to_json())
    write_results(tmp_path / "a", config, records)
    written = write_report([tmp_path / "a"])
    assert written == tmp_path / "a" / "report.html" and "no certainty" in written.read_text()
    assert write_report([tmp_path / "a"], tmp_path).read_text() == written.read_text()
    with pytest.raises(DataError, match="not the result of a finished comparison"):
        write_report([tmp_path])


@pytest.mark.parametrize(
    "arm",
    [
        "foresight:planted:Forecaster",
        {"name": "mine", "like": "foresight:planted:Forecaster"},
        {"name": "mine", "like": "foresight", "settings": {"forecaster": "planted:Forecaster"}},
        {"name": "mine", "like": "reactive", "settings": {"target": "planted:Target"}},
    ],
)
def test_a_report_imports_nothing_that_the_results_name(tmp_path, undrawn, monkeypatch, arm):
    planted = tmp_path / "code"
    planted.mkdir()
    (planted / "planted.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\nclass Forecaster: pass\n")
    monkeypatch.chdir(planted)
    config = settings(1, seeds=1)
    folder = tmp_path / "a"
    for record in (records := comparison(config)):
        write_json(folder / RUNS / record.key / RESULT, record.to_json())
    write_results(folder, config, records)
    data = read_sealed(folder / RESULTS)
    data["config"]["arms"].append(arm)
    write_sealed(folder / RESULTS, data)
    page = write_report([folder])
    assert not (tmp_path / "ran").exists() and page.exists()
