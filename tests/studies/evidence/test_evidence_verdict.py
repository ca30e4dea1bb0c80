"""The test of location: it finds what was planted, and nothing where nothing was."""

import copy
import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from foresight.common.errors import DataError
from foresight.common.intervals import among_random
from foresight.studies.evidence import outcomes
from foresight.studies.evidence.edit import RankOneEdit
from foresight.studies.evidence.localizers import head_names
from foresight.studies.evidence.measures import effects
from foresight.studies.evidence.outcomes import FULL, LOCALIZED, RANDOM, Outcome, Point, gap_interval
from foresight.studies.evidence.verdict import Evidence, judge
from foresight.studies.ledger import decode
from support.evidence_cases import many_heads, questions, silence

TRAIN, TEST = questions(16), questions(40, 1)


def made(name, kind, answers, kl=0.1):
    answers = np.asarray(answers, float)
    point = Point(0.1, 0.01, float(answers.mean()), float(answers.mean()), kl, None)
    return Outcome(name, kind, ((name,),), point, tuple(answers.tolist()), (point,))


def choices(rng, rate, n=64):
    return (rng.random(n) < rate).astype(float)


def random_sets(rng, rates):
    return [made(f"random {i}", RANDOM, choices(rng, rate)) for i, rate in enumerate(rates)]


def verdict_of(localized, random, full=(), method="edit"):
    return judge({method: [*localized, *random, *full]}, before=0.1, effect="choice", heads=1)


def best_edit(model, table, tokenizer, heads, steps=14):
    """Effects on the test questions of the best edit at these heads: gradient descent on what is to be preferred."""
    model = copy.deepcopy(model)
    edit = RankOneEdit(model, table, heads)
    optimizer = torch.optim.Adam(edit.parameters(), lr=0.3)
    ids = torch.tensor([tokenizer(q.prompt)["input_ids"] for q in TRAIN])
    right, wrong = (tokenizer(answer)["input_ids"][0] for answer in (TRAIN[0].right[0], TRAIN[0].wrong[0]))
    for _ in range(steps):
        logits = model(ids, logits_to_keep=1).logits[:, 0]
        loss = ((logits[:, right] - logits[:, wrong] - 6) ** 2).mean()
        optimizer.zero_grad()
        if loss.requires_grad:
            loss.backward()
            optimizer.step()
    return effects(TEST, model, tokenizer, edit, {})[0]["mass"]


def study_of(alive, localized):
    """Every single head of a model in which only some can write, against one that a localizer found."""
    torch.set_num_threads(1)
    model, table, tokenizer = many_heads()
    silence(model, alive)
    heads = head_names(table)
    found = {name: best_edit(model, table, tokenizer, [name]) for name in heads}
    full = made("all heads", FULL, best_edit(model, table, tokenizer, heads))
    random = [made(name, RANDOM, answers) for name, answers in found.items()]  # itself included, which must not count
    return verdict_of([replace(made("given", LOCALIZED, found[localized]), heads=((localized,),))], random, [full])


def test_a_planted_head_is_found():
    (gap,) = (found := study_of(("L1.head.3",), "L1.head.3")).gaps
    assert gap.finding == "matters" and gap.p == pytest.approx(1 / 24) and gap.beaten == 1
    assert gap.gap.low > 0.05 and gap.matching == 0
    assert "location matters" in found.sentences[0] and "does more" in found.sentences[1]


@pytest.mark.parametrize("alive", ["none", "all"])
def test_where_no_head_or_every_head_can_do_it_nothing_is_found(alive):
    heads = head_names(many_heads()[1])
    (gap,) = (found := study_of(tuple(heads) if alive == "all" else (), "L1.head.3")).gaps
    assert gap.finding == "no difference" and gap.p > 0.05
    assert gap.gap.low <= 0 <= gap.gap.high
    assert "no evidence that the location matters" in found.sentences[0]
    if alive == "none":
        assert (gap.gap.mean, gap.p, gap.matching) == (0, 1, 23)
    else:
        assert gap.effect > 0.8 and gap.random > 0.5


def test_false_positives_are_as_rare_as_promised(monkeypatch):
    """A localized set that is a random one: two localizers, sets that differ in truth, and few test questions."""
    monkeypatch.setattr(outcomes, "RESAMPLES", 20)  # of the intervals, which are not asked for here
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(150):
        rates = rng.uniform(0.2, 0.9, 41)
        localized = [made(f"l{i}", LOCALIZED, choices(rng, rates[i])) for i in range(2)]
        false += any(g.finding == "matters" for g in verdict_of(localized, random_sets(rng, rates[2:])).gaps)
    assert false / 150 < 0.05 + 2.5 * np.sqrt(0.05 * 0.95 / 150)


def test_p_is_exact():
    """Over all places that a value can take among 19 others, p <= .05 happens once in 20."""
    values = np.arange(20.0)
    p = [among_random([(values[i], np.delete(values, i))]) for i in range(20)]
    assert sorted(p) == pytest.approx((np.arange(20) + 1) / 20)
    assert among_random([(1.0, np.ones(19))]) == 1


def test_interval_holds_the_gap_to_a_random_set_as_often_as_it_says(monkeypatch):
    monkeypatch.setattr(outcomes, "RESAMPLES", 400)
    rng = np.random.default_rng(1)
    held = []
    for _ in range(100):
        rates = rng.normal(0.5, 0.1, 60)
        sets = (rng.random((60, 200)) < rates[:, None]).astype(float)
        interval = gap_interval(sets[0], sets[1:])
        held.append(interval.low <= 0 <= interval.high)  # a random set itself: no gap to another is the rule
    assert np.mean(held) > 0.88


def test_too_few_sets_are_said_to_be_too_few():
    rng = np.random.default_rng(0)
    best = [made("a", LOCALIZED, np.ones(64))]
    gap = verdict_of(best, random_sets(rng, [0.2] * 18)).gaps[0]
    assert gap.finding == "too few sets"
    found = verdict_of(best, random_sets(rng, [0.2] * 19))
    assert found.gaps[0].finding == "matters"
    two = [*best, made("b", LOCALIZED, np.ones(64))]
    assert {gap.finding for gap in verdict_of(two, random_sets(rng, [0.2] * 19)).gaps} == {"too few sets"}
    assert any("too few" in s or "few random sets" in s for s in verdict_of(two, random_sets(rng, [0.2] * 19)).caveats)


def test_a_worse_location_is_called_worse():
    gap = verdict_of([made("a", LOCALIZED, np.zeros(64))], random_sets(np.random.default_rng(0), [0.8] * 30)).gaps[0]
    assert gap.finding == "worse" and gap.gap.high < 0


def test_full_alignment_is_the_one_that_is_best_on_validation():
    rng = np.random.default_rng(0)
    full = [made("all heads", FULL, choices(rng, 0.9)), made("rank-one LoRA", "lora", choices(rng, 0.3))]
    gap = verdict_of([made("a", LOCALIZED, full[0].answers)], random_sets(rng, [0.1] * 10 + [0.9] * 15), full).gaps[0]
    assert gap.full == "all heads" and gap.to_full.mean == 0 and 10 <= gap.matching <= 15


def test_the_best_edit_decides_over_the_shift():
    rng = np.random.default_rng(0)
    high, low = [made("a", LOCALIZED, np.ones(64))], [made("a", LOCALIZED, choices(rng, 0.2))]
    random = random_sets(rng, [0.2] * 30)

    def first(edit, iti):
        return judge({"edit": [*edit, *random], "iti": [*iti, *random]}, 0.1, "choice", 1).sentences[0]

    assert "not for the best edit" in first(low, high)
    assert first(high, low).startswith("a: location matters.")
    assert "no evidence" in first(low, low)
    assert "weak evidence" in verdict_of(high, random, method="iti").sentences[0]


def test_nothing_to_compare_is_an_error():
    with pytest.raises(DataError, match="0 random"):
        verdict_of([made("a", LOCALIZED, np.ones(4))], [])


def test_evidence_survives_json():
    rng = np.random.default_rng(0)
    found = verdict_of([made("a", LOCALIZED, np.ones(64))], random_sets(rng, [0.2] * 20))
    assert decode(Evidence, json.loads(json.dumps(asdict(found)))) == found
