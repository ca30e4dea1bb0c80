import numpy as np
import pytest
import torch

from foresight.common.errors import ConfigError, DataError, TrajectoryError, UnknownNameError
from foresight.scoring.scorer import Scores
from foresight.studies.evidence.localizers import Case, Localizer, head_names, localizer_names, make_localizer
from foresight.studies.evidence.preferences import Behaviour
from foresight.studies.evidence.probes import Outputs, probe_accuracy, read_outputs, shifts
from foresight.trajectory.trajectory import Trajectory
from support.evidence_cases import many_heads, questions, silence
from support.tiny import pairs


def case(silent_but=None, contrast=True):
    model, table, tokenizer = many_heads()
    if silent_but is not None:
        silence(model, silent_but)
    behaviour = Behaviour(questions(24), questions(12, 1), questions(12, 2), pairs() if contrast else None)
    return Case(model, table, tokenizer, behaviour)


def planted_outputs(n=200, heads=5, dim=4, seed=0):
    """Head 3 knows: its outputs differ by 6 standard deviations along (1, 1, 0, 0)."""
    rng = np.random.default_rng(seed)
    right = rng.random(n) < 0.5
    values = rng.normal(size=(n, heads, dim)).astype(np.float32)
    values[right, 3, :2] += 6 / np.sqrt(2)
    return Outputs(values, right)


def test_outputs_are_those_at_the_last_token():
    found = case()
    outputs = read_outputs(found.model, found.table, found.tokenizer, questions(5))
    assert outputs.values.shape == (10, 24, 4) and outputs.right.tolist() == [True, False] * 5
    text = questions(5)[2].prompt + " w9"
    seen = {}
    for layer, block in enumerate(found.model.model.layers):
        block.self_attn.o_proj.register_forward_pre_hook(lambda m, args, layer=layer: seen.update({layer: args[0]}))
    with torch.no_grad():
        found.model(torch.tensor([found.tokenizer(text)["input_ids"]]))
    alone = torch.cat([seen[layer][0, -1] for layer in range(3)]).reshape(24, 4)
    torch.testing.assert_close(torch.from_numpy(outputs.values[5]), alone, atol=1e-5, rtol=1e-4)


def test_probes_find_the_head_that_knows():
    accuracy = probe_accuracy(planted_outputs(), planted_outputs(seed=1))
    assert accuracy.argmax() == 3 and accuracy[3] > 0.95 and np.delete(accuracy, 3).max() < 0.7


@pytest.mark.parametrize("kind", ["mass_mean", "probe"])
def test_shift_points_from_wrong_to_right_and_is_one_standard_deviation_long(kind):
    outputs = planted_outputs(2000)
    shift = shifts(kind, outputs, [3])[3]
    unit = shift / np.linalg.norm(shift)
    assert unit @ np.array([1, 1, 0, 0]) / np.sqrt(2) > 0.98
    assert np.linalg.norm(shift) == pytest.approx((outputs.values[:, 3] @ unit).std(), rel=1e-4)


def test_a_silent_head_is_not_shifted():
    outputs = planted_outputs()
    outputs.values[:, 0] = 0
    assert not shifts("mass_mean", outputs, [0])[0].any()


def test_attribution_finds_the_heads_that_can_write():
    alive = ("L0.head.2", "L2.head.6")
    assert set(make_localizer("attribution").rank(case(alive))[:2]) == set(alive)


def test_attribution_needs_pairs():
    with pytest.raises(DataError, match="contrast pairs"):
        make_localizer("attribution").rank(case(contrast=False))


def test_probes_rank_every_head_once():
    found = case()
    assert sorted(make_localizer("probes").rank(found)) == sorted(head_names(found.table))


def test_a_list_is_taken_as_it_is():
    assert make_localizer("given", heads=["L2.head.1", "L0.head.7"]).rank(case()) == ["L2.head.1", "L0.head.7"]
    with pytest.raises(ConfigError, match="unknown head"):
        make_localizer("given", heads=["L2.head.8"]).rank(case())
    with pytest.raises(ConfigError, match="expected a list"):
        make_localizer("given", heads="L2.head.1")


def test_forecast_follows_a_trend_of_a_recorded_run(tmp_path):
    found = case()
    n, rising = len(found.table), found.table.id_of["L1.head.4"]
    trajectory = Trajectory.create(tmp_path / "trajectory", found.table)
    for step in range(0, 60, 10):
        values = np.ones(n, np.float32)
        values[found.table.id_of["L2.head.0"]], values[rising] = 1.5, 0.2 * 1.3 ** (step / 10)
        trajectory.append(step, {"attribution": Scores(values, np.zeros(n, np.float32))})
    where = str(tmp_path / "trajectory")
    assert (
        make_localizer("forecast", trajectory=where, horizon=1, forecaster="persistence").rank(found)[0] == "L2.head.0"
    )
    assert make_localizer("forecast", trajectory=where, horizon=300, forecaster="drift").rank(found)[0] == "L1.head.4"
    early = make_localizer("forecast", trajectory=where, horizon=1, forecaster="persistence", cutoff=0).rank(found)
    assert early[-1] == "L1.head.4"
    with pytest.raises(TrajectoryError):
        make_localizer("forecast", trajectory=str(tmp_path / "none"), horizon=1).rank(found)


def test_plug_ins():
    assert localizer_names() == ("attribution", "forecast", "given", "probes")
    assert make_localizer("support.evidence_cases:Backwards").rank(case())[0] == "L2.head.7"
    with pytest.raises(UnknownNameError, match="did you mean 'probes'"):
        make_localizer("probe")
    with pytest.raises(ConfigError, match="no parameter 'head'"):
        make_localizer("given", head=[])
    with pytest.raises(ConfigError, match="subclass"):
        make_localizer("support.evidence_cases:questions")


def test_ties_are_in_model_order():
    class Flat(Localizer):
        def scores(self, case):
            return np.zeros(24)

    found = case()
    assert Flat().rank(found) == head_names(found.table)
