"""The page: whole, self-contained, escaped, with the verdict first, also when runs failed."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

from foresight.comparison.arms import ARMS
from foresight.comparison.demo import DemoConfig, read_demo
from foresight.comparison.summary import summarise
from foresight.errors import DataError
from foresight.report import write_report
from foresight.report.circuits import Picture, heatmap, predicted_against_realised
from foresight.report.figures import overlap_over_time
from foresight.report.page import pictures, render
from foresight.report.style import COLOURS, MARKERS
from synthetic_runs import RETAINED, STEPS, comparison, environment, mask, series

CONFIG = DemoConfig(target_tasks=["task0", "task1"], tuning_tasks=["tune1"], history_tasks=["old"], steps=STEPS)


def drawn(records, task="task0") -> Picture:
    foresight = next((r for r in records if r.cell.task == task and r.cell.arm == "foresight"), None)
    scores = series(int(task[-1]))
    found = foresight.measures if foresight else None
    return Picture(
        task,
        1,
        scores,
        found.schedule if found else (),
        mask(scores.values[:, -1], scores.name),
        found.forecast if found else None,
    )


def scored(records):
    return [record for record in records if record.cell.stage == "score"]


def page(records, config=CONFIG, circuits=(), versions=None) -> str:
    return render(config, summarise(records, 0.1, RETAINED), records, versions or environment(), circuits)


@pytest.fixture(scope="module")
def html() -> str:
    records = comparison()
    return page(records, circuits=[drawn(scored(records))])


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
    assert reader.tags.count("img") == len(reader.links) == 5
    assert all(link.startswith("data:image/svg+xml;base64,") for link in reader.links)
    assert not re.search(r"url\(|@import|https?://", re.sub(r"data:[^\"]*", "", html))


def test_figures_inside_refer_to_nothing_outside(html):
    for link in Reader(html).links:
        svg = base64.b64decode(link.partition(",")[2]).decode()
        references = re.findall(r'(?:href|src)="([^"]*)"', svg)
        assert all(reference.startswith(("#", "data:image/png;base64,")) for reference in references)


def test_the_verdict_comes_before_every_number(html):
    text = Reader(html).text
    sentence = summarise(comparison(), 0.1, RETAINED).verdict.sentence
    assert 0 < text.index(sentence) < text.index("Target accuracy, %")


def test_every_arm_has_its_row_and_colour(html):
    for name, arm in ARMS.items():
        assert f"<b>{arm.label}</b>" in html and COLOURS[name] in html
    assert len(set(COLOURS.values())) == len(set(MARKERS.values())) == len(ARMS)


def test_text_from_outside_is_escaped():
    evil = "<script>alert(1)</script>"
    records = comparison(fails={"prior": evil})
    html = page(records, replace(CONFIG, target_tasks=[evil, "task1"]), versions={"platform": evil})
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;") >= 3


@pytest.mark.parametrize("arm", ["foresight", "full"])
def test_a_failed_arm_is_shown_as_failed(arm):
    records = comparison(fails={arm: "NonFiniteError: the loss became NaN"})
    circuits = [] if arm == "full" else [drawn([])]
    text = Reader(page(records, circuits=circuits)).text
    assert "Failed runs" in text and "the loss became NaN" in text and "(4 failed)" in text


def test_one_task_and_seed_shows_no_interval():
    records = comparison(tasks=1, seeds=1)
    html = page(records, replace(CONFIG, target_tasks=["task0"], seeds=1))
    assert "no certainty" in html
    table = html[html.index("<h2>The arms") : html.index("<h2>Differences")]
    assert not re.search(r"\[\d", table)


def test_same_records_same_page(html):
    records = comparison()
    assert page(records, circuits=[drawn(scored(records))]) == html


def test_the_heatmap_marks_what_was_trained():
    picture = drawn(scored(comparison()))
    boxes = [patch for axis in heatmap(picture).axes for patch in axis.patches]
    assert len(boxes) == sum(len(names) for _, names in picture.schedule)
    ends = {round(box.get_x() + box.get_width()) for box in boxes}
    assert ends == {20, STEPS}


def test_predictions_are_sorted_into_hits_and_misses():
    picture = drawn(scored(comparison()), "task1")
    (axis,) = predicted_against_realised([picture]).axes
    counted = [len(points.get_offsets()) for points in axis.collections]
    hits = len(set(picture.schedule[-1][1]) & set(picture.realised))
    assert 0 < hits < 6 and f"{hits} of 6 found" in axis.get_title(loc="left")
    assert sum(counted) == len(picture.series)
    assert counted[3] == hits and counted[1] == counted[2] == 6 - hits


def test_overlap_is_counted_in_vectors_at_every_step():
    records, scores = scored(comparison(tasks=1)), series(0)
    vectors = dict(zip(scores.name.tolist(), scores.vectors.tolist(), strict=True))
    lines = {line.get_label(): line.get_ydata() for line in overlap_over_time(records, vectors, 0.1).axes[0].lines}
    assert np.all(np.array(lines["Oracle"]) == 1.0) and "Full" not in lines
    circuit = set(mask(scores.values[:, -1], scores.name))
    first, second = (
        sum(vectors[name] for name in circuit & set(names)) / sum(vectors[name] for name in circuit)
        for _, names in drawn(records).schedule
    )
    assert lines["Foresight"][19] == pytest.approx(first) and lines["Foresight"][20] == pytest.approx(second)


def test_deleted_trajectories_cost_only_their_pictures(tmp_path):
    assert pictures(comparison(), tmp_path) == []
    assert "Learning curves" in page(comparison())


def test_a_folder_without_a_demo_is_refused(tmp_path):
    with pytest.raises(DataError, match="not the result of a finished demo"):
        write_report(tmp_path)
    (tmp_path / "results.json").write_text('{"schema": 0}')
    with pytest.raises(DataError, match="schema 0"):
        read_demo(tmp_path)
