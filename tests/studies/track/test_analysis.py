"""The analysis gives known answers for planted movement, and none without its floor."""

from dataclasses import replace

import numpy as np
import pytest

from foresight.common.numbers import json_rows
from foresight.studies.circuits.distance import PARTS, across_and_within, distance_statistic
from foresight.studies.circuits.floors import half_means
from foresight.studies.track.answers import answer, between_seeds
from foresight.studies.track.tables import between_rows, distance_rows, score_table, staleness_rows
from foresight.studies.track.words import sentences
from foresight.trajectory.distances import circuit_distances, distance_groups
from support.planted_tracks import TABLE, K, profile, track

ARRAYS = (TABLE.layer, TABLE.kind)
TASKS = ("ioi", "gender", "boolean", "reverse", "induction", "docstring")


def only(kind):
    """Profiles of a run in which one kind of component migrates and the other stays."""
    return [profile(0), np.where(kind, profile(2), profile(0))]


def tables_of(tracks, **more):
    tables = {"distance": [], "staleness": [], "between": between_rows(tracks), "metrics": [], "cost": [],
              "stability": [], "signs": []}  # fmt: skip
    for one in tracks:
        tables["distance"] += distance_rows(one)
        tables["staleness"] += staleness_rows(one)
    return tables | more


def study(profiles, **settings):
    """Answers from two seeds of six tasks, no two runs with the same noise."""
    tracks = [track(profiles, seed=100 * i + s, task=name, **settings) for i, name in enumerate(TASKS) for s in (1, 2)]
    for i, one in enumerate(tracks):
        one.labels["seed"] = 1 + i % 2
    return answer(tables_of(tracks))


def pick(rows, **wanted):
    found = [r for r in rows if all(r[name] == value for name, value in wanted.items())]
    assert len(found) == 1, (wanted, len(found))
    return found[0]


def test_nothing_moved_has_no_excess_at_all():
    one = track([profile(0)] * 2, noise=3.0, fresh=False)
    across, within = across_and_within(distance_statistic(K, *ARRAYS), *(half_means(s) for s in one.samples))
    assert np.array_equal(across, within) and within[0] > 0


# -- known answers ----------------------------------------------------------------------------------------------------


def test_nothing_moves():
    found = study([profile(0)] * 3, noise=3.0)
    for row in found["moves"]:
        assert row["n"] == 12 and row["units"] == 6
        assert row["interval_low"] <= 0.02 and abs(row["mean"]) < 0.05, row
        assert row["distance"] < row["floor"] or row["floor"] < 0.05
    assert all(row["beyond_floor"] <= 2 for row in found["moves"])
    assert all(abs(row["mean"]) < 0.08 for row in found["heads_over_mlps"])
    last = pick(found["staleness"], step=20)
    assert last["held"] == pytest.approx(1, abs=0.15) and last["ceiling"] < 0.95
    assert "free: within the noise" in sentences(found)[0]


def test_a_circuit_that_migrates_one_layer_up():
    found = study([profile(0), profile(0), profile(1)], noise=0.3)
    still = pick(found["moves"], step=10, kind="all", measure="jaccard")
    moved = pick(found["moves"], step=20, kind="all", measure="jaccard")
    assert still["distance"] == still["mean"] == 0
    # layers 0 and 1 give way to 1 and 2: half of the circuit stays, so the Jaccard distance is 1 - 4/12
    assert moved["distance"] == pytest.approx(2 / 3) and moved["mean"] == pytest.approx(2 / 3)
    assert moved["decided"] == 1 and moved["beyond_floor"] == moved["n"] == 12 and moved["between_runs"] == 0
    exact = circuit_distances(profile(0)[None], profile(1)[None], K, *ARRAYS)[0, 0, 1]
    depth = pick(found["moves"], step=20, kind="all", measure="wasserstein")
    assert depth["mean"] == pytest.approx(exact, rel=0.1) and depth["decided"] == 1
    stale = pick(found["staleness"], step=20)
    assert stale["overlap"] == stale["across"] == 0.5 and stale["ceiling"] == 1
    assert stale["mean"] == pytest.approx(0.5)
    assert stale["held"] == pytest.approx((0.5 - K / len(TABLE)) / (1 - K / len(TABLE)))
    text = " ".join(sentences(found))
    assert "free: moved beyond noise. At step 20" in text and "step 20: 43% still holds" in text


@pytest.mark.parametrize(("kind", "sign"), [("head", 1), ("mlp", -1)])
def test_which_kind_moves(kind, sign):
    found = study(only(TABLE.kind == kind), noise=0.3)
    still = "mlp" if kind == "head" else "head"
    for measure in PARTS:
        assert pick(found["heads_over_mlps"], measure=measure)["decided"] == sign
        assert pick(found["moves"], kind=kind, measure=measure)["decided"] == 1
        assert abs(pick(found["moves"], kind=still, measure=measure)["mean"]) < 0.02
    verdict = "free: heads moved more" if sign == 1 else "free: MLP blocks moved more"
    assert verdict in " ".join(sentences(found))


def test_distances_carry_floor_and_interval():
    rows = distance_rows(track([profile(0), profile(1), profile(3)], noise=1.0))
    assert {(r["since"], r["from_step"], r["step"]) for r in rows} == {
        ("start", 0, 10), ("start", 0, 20), ("previous", 0, 10), ("previous", 10, 20)
    }  # fmt: skip
    for row in rows:
        assert 0 <= row["floor"] <= row["floor_high"] and row["low"] <= row["high"]
    assert len(rows) == 4 * len(distance_groups(TABLE.kind)) * len(PARTS)


def test_runs_are_compared_at_one_step_with_other_seeds_only():
    members = [track([profile(0), profile(s)], seed=s) for s in (1, 2)]
    other = track([profile(3), profile(3)], seed=1, strategy="mech")
    rows = between_rows([*members, other])
    assert {r["strategy"] for r in rows} == {"free"} and all(r["pairs"] == 1 for r in rows)
    at_end = pick(rows, step=10, kind="all", measure="jaccard")["between_runs"]
    assert at_end == circuit_distances(profile(1)[None], profile(2)[None], K, *ARRAYS)[0, 0, 0]
    assert pick(rows, step=0, kind="all", measure="jaccard")["between_runs"] == 0


def test_scores_mark_the_circuit_of_every_step():
    rows = score_table(track([profile(0), profile(1)])).to_pylist()
    assert len(rows) == 2 * len(TABLE) and all(r["stderr"] > 0 and r["task"] == "ioi" for r in rows)
    for step, scores in ((0, profile(0)), (10, profile(1))):
        inside = {r["component"] for r in rows if r["in_circuit"] and r["step"] == step}
        assert inside == {TABLE.name[i] for i in np.argsort(-scores, kind="stable")[:K]}


def test_condensed_tracks_are_as_far_apart():
    members = [track([profile(0), profile(s)], seed=s) for s in (1, 2)]
    short = [replace(one, samples=one.samples.mean(1, keepdims=True)) for one in members]
    assert between_rows(short) == between_rows(members)


def metric(task, strategy, seed, step, accuracy):
    return {"task": task, "strategy": strategy, "seed": seed, "step": step, "measured_task": task,
            "accuracy": accuracy, "loss": 1 - accuracy}  # fmt: skip


def test_outcome_compares_strategies_at_the_last_step_in_pairs():
    level = {name: 0.1 * i for i, name in enumerate(TASKS)}
    gain = {name: 0.2 + 0.01 * i for i, name in enumerate(TASKS)}
    rows = [metric(t, "mech", s, 20, level[t]) for t in TASKS for s in (1, 2)]
    rows += [metric(t, "random", s, 20, level[t] + gain[t]) for t in TASKS for s in (1, 2)]
    rows += [metric(t, "random", s, 0, 1.0) for t in TASKS for s in (1, 2)]
    cost = {"task": "ioi", "strategy": "mech", "seed": 3, "seconds": 4.0, "replay_seconds": 0.0,
            "tracking_share": 0.25, "error": "the loss is nan"}  # fmt: skip
    found = answer(tables_of([track([profile(0)] * 2)], metrics=rows, cost=[cost]))
    pair = pick(found["outcome"], metric="accuracy", minus="random")
    assert pair["mean"] == pytest.approx(-0.225) and pair["decided"] == -1 and pair["n"] == 12
    text = " ".join(sentences(found))
    assert "random learned best" in text and "tracking took 25% of the time" in text
    assert "ioi, mech, seed 3 failed: the loss is nan" in text


def stability(task, seed, t, value, measure="ratio", s=0):
    return {"task": task, "circuit_of": task, "strategy": "free", "scorer": "attribution", "seed": seed, "s": s, "t": t,
            "measure": measure, "value": value, "floor": 0.1}  # fmt: skip


def test_stability_is_of_the_first_circuit_where_it_is_defined():
    rows = [stability(t, s, 20, 0.7 + 0.01 * i + 0.02 * s) for i, t in enumerate(TASKS) for s in (1, 2)]
    rows += [stability("ioi", 3, 20, np.nan), stability("ioi", 1, 10, 5.0), stability("ioi", 1, 0, 1.0)]
    rows += [stability("ioi", 1, 20, 9.0, s=10), stability("ioi", 1, 20, 9.0, "faithfulness")]
    found = answer(tables_of([track([profile(0)] * 2)], stability=rows))
    row = pick(found["stability"], step=20)
    assert (row["defined"], row["runs"], row["decided"]) == (12, 13, -1) and row["ratio"] == pytest.approx(0.755)
    assert row["mean"] == pytest.approx(-0.245) and {r["step"] for r in found["stability"]} == {10, 20}
    text = " ".join(sentences(found))
    assert "times as faithful" in text and "defined in 12 of 13 runs" in text


def test_circuits_that_explain_nothing_have_no_ratio_but_their_faithfulness():
    rows = [stability("ioi", seed, 20, np.nan) for seed in (1, 2)]
    rows += [stability("ioi", seed, 20, level, "faithfulness", s)
             for seed in (1, 2) for s, level in ((0, 0.02), (20, 0.03))]  # fmt: skip
    found = answer(tables_of([track([profile(0)] * 2)], stability=rows))
    (row,) = json_rows(found["stability"])
    assert (row["ratio"], row["mean"], row["defined"]) == (None, None, 0)
    assert (row["of_start"], row["of_own"]) == pytest.approx((0.02, 0.03))
    (text,) = [one for one in sentences(found) if "still explain" in one]
    assert "undefined" in text and "0.02" in text and "0.03" in text and "times as faithful" not in text


def test_conflicts_are_of_the_base_model_strongest_first():
    known = dict(low=0.0, high=1.0, floor=0.2, floor_high=0.5, shared=4)
    pairs = [(None, "a", "b", 0.4), (None, "a", "c", 0.9), (1, "a", "b", 1.0), (None, "b", "c", None)]
    rows = [known | {"seed": seed, "task_a": a, "task_b": b, "value": value} for seed, a, b, value in pairs]
    found = answer(tables_of([track([profile(0)] * 2)], signs=rows))
    assert [(r["task_b"], r["beyond_floor"]) for r in found["conflict"]] == [("c", True), ("b", False)]
    said = " ".join(sentences(found))
    assert "1 of 2 pairs conflict beyond noise. The strongest is a and c: 0.90" in said


def test_one_run_gives_no_interval_and_no_verdict():
    found = answer(tables_of([track([profile(0), profile(2)])]))
    row = pick(found["moves"], kind="all", measure="jaccard")
    assert row["mean"] > 0.5 and row["interval_low"] is None and row["decided"] == 0
    assert "no interval" in " ".join(sentences(found)) and np.isnan(row["between_runs"])


def test_one_snapshot_says_nothing():
    assert "nothing can be said about movement" in sentences(answer(tables_of([track([profile(0)])])))[0]


def test_the_floor_between_seeds_compares_runs_of_one_task():
    rows = [{"task": task, "seed": seed, "value": value}
            for task, values in {"a": (1.0, 1.5, 2.0), "b": (5.0, 5.0), "c": (9.0,)}.items()
            for seed, value in enumerate(values)]  # fmt: skip
    assert between_seeds(rows, "value") == pytest.approx((0.5 + 0.5 + 1.0 + 0.0) / 4)
    rows[0]["value"] = float("nan")  # undefined: that run has nothing to be compared with
    assert between_seeds(rows, "value") == pytest.approx((0.5 + 0.0) / 2)
    assert np.isnan(between_seeds([r for r in rows if r["task"] == "c"], "value"))
