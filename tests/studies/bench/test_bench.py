"""Nobody is judged on what they have learned from, nothing is asked twice, and a known truth is found."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from foresight.common.errors import ConfigError, DataError, ForesightError, UnknownNameError
from foresight.studies.bench.bench import PRIOR, TWIN, Candidate, run_bench
from foresight.studies.bench.leaderboard import leaderboard, sentences
from foresight.studies.bench.questions import judge, questions
from foresight.studies.bench.splits import one_scorer, splits
from support.planted_corpus import runs

FAST = [Candidate(name) for name in ("persistence", "mean", "smoothing", "drift", "ridge")]
SPY = '''
from pathlib import Path
from foresight.forecasters import Forecaster
LOG = Path(__file__).with_suffix(".log")
class Spy(Forecaster):
    """Writes down what it is shown."""
    def _note(self, *words):
        with LOG.open("a") as file:
            print(*words, file=file)
    def _pretrain(self, histories):
        self.runs_ = [float(series.values.sum()) for series in histories]
        self._note("past", *self.runs_)
    def _fit(self, series):
        self._note("fit", series.steps[-1], float(series.values.sum()))
    def _predict(self, horizon):
        self._note("predict", horizon)
        return self.series_.values[:, -1]
'''


@pytest.fixture
def spy(tmp_path, monkeypatch):
    """(name of a forecaster that writes down what it is shown, its file, its log)."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "bench_spy.py"
    file.write_text(SPY)
    yield "bench_spy:Spy", file, file.with_suffix(".log")
    sys.modules.pop("bench_spy", None)


def everyone(parts, entrants):
    return [(split, entrant) for split in parts for entrant in entrants]


def board(corpus, tmp_path, entrants=FAST, kind="task"):
    rows = run_bench(tmp_path, everyone(splits(corpus, kind), entrants))
    return leaderboard(rows, kind)


def test_what_is_left_out_is_nowhere_in_what_is_learned_from():
    corpus = runs("walk", tasks=3, models=2)
    for kind in ("task", "model"):
        parts = splits(corpus, kind)
        assert sorted(r.hash for part in parts for r in part.test) == sorted(r.hash for r in corpus)
        for part in parts:
            assert {getattr(r, kind) for r in part.test} == {part.held_out}
            assert part.held_out not in {getattr(r, kind) for r in part.train}
            assert len(part.train) + len(part.test) == len(corpus)
    assert splits(runs("walk", tasks=1), "task") == []
    with pytest.raises(ConfigError, match="seed"):
        splits(corpus, "seed")


def test_a_forecaster_sees_other_tasks_whole_and_this_run_up_to_the_cutoff(spy):
    name, _, log = spy
    corpus = runs("walk", tasks=3, seeds=1)
    part = splits(corpus, "task")[0]
    list(Candidate(name).ask(part))
    lines = [line.split() for line in log.read_text().splitlines()]
    past = [float(value) for line in lines if line[0] == "past" for value in line[1:]]
    assert past == [float(run.series.values.sum()) for run in part.train]
    series = part.test[0].series
    fits = [(int(line[1]), float(line[2])) for line in lines if line[0] == "fit"]
    cutoffs = sorted({question.cutoff for question in questions(series)})
    assert fits == [(int(series.steps[c]), float(series.values[:, : c + 1].sum())) for c in cutoffs]


def test_questions_look_ahead_and_are_asked_once():
    series = runs("walk", tasks=1)[0].series
    asked = list(questions(series))
    assert [(q.cutoff, q.target) for q in asked] == [
        (2, 4), (2, 7), (2, 20), (5, 7), (5, 10), (5, 20), (10, 12), (10, 15), (10, 20)
    ]  # fmt: skip
    assert list(questions(series.until(0))) == []
    assert [(q.cutoff, q.target) for q in questions(series.until(5))] == [(0, 1)]


def test_judgement_of_a_case_worked_by_hand():
    series = runs("walk", tasks=1)[0].series.take(range(20))
    values = np.ones((20, 3))
    values[[0, 1], 1], values[[1, 2], 2] = 5, (9, 5)  # the circuit {0, 1} becomes {1, 2}
    series = type(series)(
        values, [0, 5, 10], **{k: getattr(series, k) for k in ("layer", "kind", "index", "vectors", "name")}
    )
    question = type(next(questions(series)))(1, 2, 0.5, 1.0)
    stays = judge(values[:, 1], series, question)
    assert stays["precision"] == 0.5 and stays["newcomers"] == 0
    assert stays["error"] == pytest.approx((4 + 4 + 4) / (18 + 9 + 5))
    perfect = judge(values[:, 2], series, question)
    assert [perfect[m] for m in ("precision", "newcomers", "ndcg", "error")] == [1, 1, 1, 0]
    assert perfect["spearman"] == pytest.approx(1)
    assert np.isnan(judge(values[:, 2], series, question, scores=False)["error"])


def test_a_relay_is_foreseen_and_its_worth_stated(tmp_path):
    found = board(runs("relay"), tmp_path)
    assert found.standings[0].forecaster in ("drift", "ridge")
    assert found.choice.beats and found.choice.gain.low > 0
    assert found.headroom.decided > 0 and found.headroom.mean >= found.choice.gain.mean
    newcomers = {line.forecaster: line.newcomers.mean for line in found.standings}
    assert newcomers["persistence"] == 0 and newcomers[found.choice.chosen] > 0.5
    said = " ".join(sentences(found))
    assert f"{found.choice.chosen} is the choice" in said and "to its end, there is headroom: +" in said


@pytest.mark.slow
def test_a_random_walk_is_not_taken_for_a_relay(tmp_path):
    beats = [board(runs("walk", rng_seed=i), tmp_path / str(i), FAST[:4]).choice.beats for i in range(10)]
    assert sum(beats) <= 2  # at 2.5 %, one-sided, the chance of more is 2e-3


def test_nothing_beats_persistence_on_a_random_walk(tmp_path):
    found = board(runs("walk"), tmp_path, FAST[:4])
    assert not found.choice.beats
    assert "Nothing beats persistence" in " ".join(sentences(found))
    json.dumps(found.to_json(), allow_nan=False)


def test_the_ceiling_is_the_twin_and_persistence_gains_nothing(tmp_path):
    corpus = runs("relay", tasks=3)
    rows = run_bench(tmp_path, everyone(splits(corpus, "task"), FAST[:1]))
    twin = [row for row in rows if row["forecaster"] == TWIN]
    assert len(twin) == len(corpus) * 9
    assert np.mean([row["precision"] for row in twin]) > 0.9
    found = leaderboard(rows, "task")
    assert found.standings[0].gain.mean == 0 and found.standings[0].skill.mean == 0
    alone = leaderboard(run_bench(tmp_path, everyone(splits(runs("relay", 3, 1), "task"), FAST[:1])), "task")
    assert alone.headroom.mean is None and "unknown" in " ".join(sentences(alone))


def test_what_is_answered_is_not_asked_again_unless_the_forecaster_is_another(tmp_path, spy):
    name, code, log = spy
    parts = splits(runs("walk", tasks=3, seeds=1), "task")
    both = [Candidate("persistence"), Candidate(name)]
    first, seen = run_bench(tmp_path, everyone(parts, both)), log.read_text()
    again = run_bench(tmp_path, everyone(parts, both))
    assert json.dumps(again) == json.dumps(first) and log.read_text() == seen
    for file in (tmp_path / "runs").glob("*/result.json"):
        if json.loads(file.read_text())["cell"]["forecaster"] == name:
            file.unlink()  # as if it had been broken off
            break
    run_bench(tmp_path, everyone(parts, both))
    assert log.read_text().count("past") == seen.count("past") + 1
    code.write_text(SPY + "# edited\n")
    run_bench(tmp_path, everyone(parts, both))
    assert log.read_text().count("past") == 2 * seen.count("past") + 1


def test_a_model_with_kinds_of_its_own_has_no_prior(tmp_path):
    corpus = runs("walk", tasks=2, seeds=1, models=2)
    corpus[-2:] = [replace(r, series=r.series._with(kind=np.full(60, "kv"))) for r in corpus[-2:]]
    rows = run_bench(tmp_path, everyone(splits(corpus, "model"), FAST[:1]))
    assert not any(row["forecaster"] == PRIOR for row in rows)
    assert leaderboard(rows, "model").standings[0].precision.mean > 0


def test_a_forecaster_that_breaks_is_named_with_the_line_that_broke(tmp_path, spy):
    name, code, _ = spy
    code.write_text(SPY.replace("return self.series_.values[:, -1]", "return 1 / 0"))
    with pytest.raises(ForesightError, match=r"'bench_spy:Spy': ZeroDivisionError.*bench_spy.py:\d+"):
        run_bench(tmp_path, everyone(splits(runs("walk", tasks=2), "task"), [Candidate(name)]))


def test_two_workers_answer_as_one(tmp_path):
    parts = splits(runs("relay", tasks=3, seeds=1), "task")
    one, two = (run_bench(tmp_path / str(n), everyone(parts, FAST[:4]), workers=n) for n in (1, 2))
    timeless = [[{**row, "seconds": 0} for row in rows] for rows in (one, two)]
    assert json.dumps(timeless[0]) == json.dumps(timeless[1])


def test_bad_entrants_and_mixed_scorers_are_named(tmp_path):
    corpus = runs("walk", tasks=3)
    with pytest.raises(UnknownNameError, match="persistence"):
        run_bench(tmp_path, everyone(splits(corpus, "task"), [Candidate("persistance")]))
    mixed = [*corpus, *(type(r)(**{**vars(r), "scorer": "gradient"}) for r in corpus)]
    assert one_scorer(mixed, "gradient") == mixed[len(corpus) :]
    with pytest.raises(DataError, match="--scorer"):
        one_scorer(mixed)
    with pytest.raises(DataError, match="no run of scorer 'utility'"):
        one_scorer(mixed, "utility")
