"""What every policy over components owes its run, and what each one chooses."""

import numpy as np
import pytest

from foresight.common.errors import BudgetError, CheckpointError, ConfigError, TrajectoryError
from foresight.forecasters import Forecaster, make_forecaster
from foresight.masks.masks import Mask, everything
from foresight.masks.schedule import MaskSchedule
from foresight.masks.selection import select
from foresight.policies.catalogue import POLICIES
from foresight.policies.policy import Past, View
from foresight.policies.targets import make_target
from support.planted import make_table, random_walk, series_of
from support.policies import make_policy as policy_on

NAMES = tuple(name for name in POLICIES if name != "movement")  # that one chooses single weights
TABLE = make_table(layers=4, heads=4, blocks=4)  # 32 components: heads of 4 vectors, MLP blocks of 3
BUDGET = 24


def run(t=6, seed=0, table=TABLE):
    return series_of(table, random_walk(len(table), t, seed, size=0.5))


def past(*runs):
    return [Past(series, f"task{i}") for i, series in enumerate(runs)]


def view(step=50, series=None, **changes):
    damage = None if series is None else np.roll(series.values, 1, axis=0) - 0.5
    given = dict(table=TABLE, n_vectors=BUDGET, step=step, total_steps=100, series=series, horizon=20, damage=damage)
    return View(**{**given, **changes})


def schedule(*entries):
    made = MaskSchedule()
    for step, components in entries:
        made.append(step, Mask.of(components))
    return made


def make_policy(name, **given):
    return policy_on(name, table=TABLE, **given)


OWN = dict(
    replay=dict(mask_schedule=schedule((0, [0, 1]), (30, [2, 3]))),
    oracle=dict(oracle_trajectory=run(seed=7)),
    oracle_ahead=dict(oracle_trajectory=run(seed=7)),
)
"""What policies cannot do without."""


def ready(name):
    """A policy with all that a run can give it."""
    made = make_policy(name, history=past(run(seed=5), run(seed=6)), **OWN.get(name, {}))
    if made.scouts:
        made.scouted = np.arange(len(TABLE), dtype=np.float32)
    return made


@pytest.fixture(params=NAMES)
def policy(request):
    return ready(request.param)


def test_the_names_are_all_there(policy):
    simple = {"full", "static", "random", "prior", "reactive", "foresight", "oracle", "replay"}
    assert set(NAMES) == simple | {"probing", "predicted", "displaced", "oracle_ahead"}
    assert policy.name in NAMES


@pytest.mark.parametrize("budget", [3, 7, 24, 60, 112])
@pytest.mark.parametrize("name", sorted(set(NAMES) - {"full", "replay"}))
def test_the_budget_is_respected_and_used_up(name, budget):
    mask = ready(name).mask(view(series=run(), n_vectors=budget))
    left = budget - TABLE.vectors[list(mask.components)].sum()
    assert left >= 0 and all(TABLE.vectors[i] > left for i in set(range(len(TABLE))) - set(mask.components))


def test_equal_views_give_equal_masks(policy):
    again = ready(policy.name)
    ties = series_of(TABLE, np.ones((len(TABLE), 6)))
    for series in (run(), ties):
        seen = view(series=series, seed=3)
        assert policy.mask(seen) == policy.mask(seen) == again.mask(seen)


def test_what_lies_after_the_step_is_not_used(policy):
    past = random_walk(len(TABLE), 6, size=0.5)
    futures = [series_of(TABLE, np.concatenate([past, later], 1)) for later in (np.ones((32, 2)), np.eye(32, 2) * 1e9)]
    assert policy.mask(view(50, futures[0])) == policy.mask(view(50, futures[1])) == policy.mask(view(50, run()))


def test_needs_scores_is_the_truth(policy):
    if policy.needs_scores:
        with pytest.raises(ConfigError, match="needs scores at step 50"):
            policy.mask(view(series=None))
        with pytest.raises(TrajectoryError, match="no snapshot at or before step 50"):
            policy.mask(view(series=series_of(TABLE, np.ones((32, 1)), [60])))
    else:
        assert policy.mask(view(series=None)) == policy.mask(view(series=run()))


def test_remasks_is_the_truth(policy):
    masks = {policy.mask(view(step, run())) for step in (0, 10, 20, 30, 40, 50)}
    assert (len(masks) > 1) == policy.remasks


def test_forecasts_is_the_truth(policy):
    policy.mask(view(series=run()))
    assert (policy.last_forecast is not None) == policy.forecasts == (policy.name == "foresight")


def test_a_series_of_another_model_is_refused(policy):
    if policy.needs_scores:
        with pytest.raises(TrajectoryError, match="same model and mlp_block"):
            policy.mask(view(series=run(table=make_table(layers=4, heads=4, blocks=5))))


def test_full_is_everything():
    assert make_policy("full").mask(view(n_vectors=3)) == everything(TABLE)


def test_static_is_the_first_snapshot_and_reactive_the_last():
    series = run()
    for step in (0, 25, 50):
        seen = view(step, series)
        assert make_policy("static").mask(seen) == select(series.values[:, 0], TABLE, BUDGET)
        assert make_policy("reactive").mask(seen) == select(series.values[:, step // 10], TABLE, BUDGET)


def test_random_depends_on_the_seed_and_with_redraw_on_the_step():
    fixed, redrawn = make_policy("random"), make_policy("random", redraw=True)
    assert len({fixed.mask(view(step, seed=1)) for step in range(0, 100, 10)}) == 1
    assert len({fixed.mask(view(seed=seed)) for seed in range(20)}) > 15
    assert len({redrawn.mask(view(step, seed=1)) for step in range(20)}) > 15
    assert redrawn.mask(view(7, seed=1)) == make_policy("random", redraw=True).mask(view(7, seed=1))


def test_random_favours_no_component():
    counts = np.zeros(len(TABLE))
    for seed in range(2000):
        counts[list(make_policy("random").mask(view(seed=seed)).components)] += 1
    for kind in ("head", "mlp"):
        share = counts[TABLE.kind == kind] / 2000
        assert abs(share - share.mean()).max() < 0.05


def planted_history(table, best_layer, best_kind, seed=0, relative=False):
    """One layer and kind is on top; within it, the components are in random order."""
    rng = np.random.default_rng(seed)
    layer = table.layer / table.layer.max() if relative else table.layer
    best = (layer == best_layer) & (table.kind == best_kind)
    return series_of(table, (rng.random((len(table), 3)) + 10 * best[:, None]))


def test_prior_finds_the_layer_and_kind_of_past_runs():
    history = past(*(planted_history(TABLE, 2, "mlp", seed) for seed in range(20)))
    mask = make_policy("prior", history=history).mask(view(n_vectors=12))
    assert mask.names(TABLE) == [f"L2.mlp.{i}" for i in range(4)]


def test_prior_carries_over_to_models_of_another_depth():
    deep = make_table(layers=12, heads=4, blocks=4)
    history = past(*(planted_history(deep, 1, "head", seed, relative=True) for seed in range(20)))  # the last layer
    mask = make_policy("prior", history=history).mask(view(n_vectors=16))
    assert mask.names(TABLE) == [f"L3.head.{i}" for i in range(4)]


def test_prior_knows_layer_and_kind_alone():
    runs = [run(seed=seed) for seed in range(5)]
    policy = make_policy("prior", history=past(*runs))
    scores = policy.scores(TABLE)
    for layer in range(4):
        for kind in ("head", "mlp"):
            assert len(set(scores[(TABLE.layer == layer) & (TABLE.kind == kind)])) == 1
    shuffled = [series.take(np.random.default_rng(1).permutation(32)) for series in runs]
    np.testing.assert_array_equal(make_policy("prior", history=past(*shuffled[::-1])).scores(TABLE), scores)


def test_prior_does_not_favour_low_indexes_on_ties():
    history = past(*(planted_history(TABLE, 2, "mlp", seed) for seed in range(20)))
    policy = make_policy("prior", history=history)
    chosen = {policy.mask(view(n_vectors=3, seed=seed)).names(TABLE)[0] for seed in range(40)}
    assert chosen == {f"L2.mlp.{i}" for i in range(4)}
    assert len({policy.mask(view(step, n_vectors=3, seed=1)) for step in (0, 50)}) == 1


def test_prior_does_not_depend_on_the_scale_of_a_run():
    runs = [run(seed=seed) for seed in range(4)]
    scaled = [series_of(TABLE, series.values * 10.0 ** (5 * i)) for i, series in enumerate(runs)]
    np.testing.assert_array_equal(
        make_policy("prior", history=past(*runs)).scores(TABLE),
        make_policy("prior", history=past(*scaled)).scores(TABLE),
    )


def test_prior_refuses_a_kind_that_it_never_saw():
    heads = run().take(np.flatnonzero(TABLE.kind == "head"))
    with pytest.raises(ConfigError, match="component of kind 'mlp'"):
        make_policy("prior", history=past(heads)).mask(view())


def test_oracle_is_the_end_of_the_recorded_run():
    recorded = run(seed=7)
    assert make_policy("oracle", oracle_trajectory=recorded).mask(view(0)) == select(
        recorded.values[:, -1], TABLE, BUDGET
    )
    other = run(table=make_table(layers=3))
    with pytest.raises(TrajectoryError, match="same model and mlp_block"):
        make_policy("oracle", oracle_trajectory=other).mask(view())


def test_replay_follows_the_schedule_and_the_budget():
    policy = make_policy("replay", mask_schedule=schedule((0, [0, 1]), (30, [2, 3])))
    assert [policy.mask(view(step)).components for step in (0, 29, 30, 99)] == [(0, 1), (0, 1), (2, 3), (2, 3)]
    with pytest.raises(BudgetError, match="8 vectors, the budget buys 7; raise the budget to 0.0064"):
        policy.mask(view(n_vectors=7))


def test_replay_of_a_recorded_run_gives_its_masks():
    series, reactive, recorded = run(), make_policy("reactive"), MaskSchedule()
    for step in range(0, 60, 10):
        recorded.append(step, reactive.mask(view(step, series)))
    policy = make_policy("replay", mask_schedule=MaskSchedule.from_json(recorded.to_json(TABLE), TABLE))
    assert [policy.mask(view(s)) for s in range(0, 60, 10)] == [mask for _, mask in recorded.entries]


class Spy(Forecaster):
    """Says what it saw and was asked for; predicts the scores in reverse order of the last snapshot."""

    def _fit(self, series):
        self.seen_ = series.steps.tolist()

    def _predict(self, horizon):
        self.asked_ = horizon
        return 1 / self.series_.values[:, -1]


def test_foresight_trains_what_the_forecaster_predicts():
    series = run()
    policy = make_policy("foresight", forecaster=Spy(), gate=False)
    assert policy.mask(view(50, series)) == select(1 / series.values[:, 5], TABLE, BUDGET)
    forecast = policy.last_forecast
    assert (forecast.made_at, forecast.for_step) == (50, 70)
    np.testing.assert_allclose(forecast.prediction, 1 / series.values[:, 5])
    np.testing.assert_array_equal(forecast.persistence, series.values[:, 5])


@pytest.mark.parametrize(
    "step, cutoff, horizon, seen_to, for_step",
    [
        (50, None, 20, 50, 70),
        (50, 30, 20, 30, 70),  # the cutoff hides snapshots, it does not move the step that is forecast
        (50, 35, 20, 30, 70),
        (57, None, 20, 50, 77),  # the last probe is a while ago
        (50, 99, 20, 50, 70),
        (50, None, 500, 50, 100),  # there is nothing after the end of the run
        (100, None, 20, 50, 100),
    ],
)
def test_cutoff_and_horizon(step, cutoff, horizon, seen_to, for_step):
    spy = Spy()
    policy = make_policy("foresight", forecaster=spy, gate=False, cutoff=cutoff)
    policy.mask(view(step, run(), horizon=horizon))
    assert spy.seen_[-1] == policy.last_forecast.made_at == seen_to
    assert policy.last_forecast.for_step == for_step and spy.asked_ == for_step - seen_to


def test_at_the_end_of_the_run_foresight_still_answers():
    policy = make_policy("foresight", forecaster=Spy(), gate=False)
    policy.mask(view(50, run(), total_steps=50))
    assert policy.last_forecast.for_step == 51


def test_foresight_pretrains_on_history_and_resumes_from_its_state():
    series = run(t=3).until(20)
    policy = make_policy("foresight", forecaster=make_forecaster("ridge"), history=past(run(t=12, seed=8)))
    mask = policy.mask(view(20, series))
    assert policy.forecaster.fallback_ is None
    resumed = make_policy("foresight", forecaster=make_forecaster("ridge"))
    resumed.load_state(*policy.state())
    assert resumed.mask(view(20, series)) == mask
    np.testing.assert_array_equal(resumed.last_forecast.prediction, policy.last_forecast.prediction)
    with pytest.raises(CheckpointError):
        make_policy("foresight", forecaster=make_forecaster("mean")).load_state(*policy.state())


def relay(noise=0.0):
    """Log scores that overtake each other on straight lines: who is on top next can be foreseen."""
    t, peak = np.arange(21), np.random.default_rng(0).permutation(np.linspace(-10, 30, len(TABLE)))[:, None]
    return series_of(TABLE, np.exp(0.02 * (2 * peak * t - peak**2) + noise))


def test_foresight_follows_a_circuit_that_moves_foreseeably():
    series = relay()
    policy = make_policy("foresight", forecaster=make_forecaster("damped_drift"))
    mask = policy.mask(view(150, series, total_steps=200))
    assert policy.notes["gate"] == 1 and "forecasts: " in policy.words
    assert mask == select(policy.last_forecast.prediction, TABLE, BUDGET)
    ahead, now = (set(select(series.values[:, at], TABLE, BUDGET).components) for at in (17, 15))
    assert len(ahead & set(mask.components)) > len(ahead & now)


def test_foresight_holds_the_best_simple_mask_where_it_has_been_wrong():
    series = run(t=21)
    seen = view(150, series, total_steps=200)
    policy = make_policy("foresight", forecaster=Spy())
    assert policy.mask(seen) == make_policy("reactive").mask(seen)
    assert policy.notes["gate"] == 0 and "holds persistence" in policy.words
    wrong = select(policy.last_forecast.prediction, TABLE, BUDGET)
    believing = make_policy("foresight", forecaster=Spy(), gate=False)
    assert believing.mask(seen) == wrong != policy.mask(seen) and not believing.words


def test_prior_without_history_is_the_shipped_one():
    scores = make_policy("prior").scores(TABLE)
    assert len(set(scores[TABLE.kind == "head"])) == 4 and ((scores > 0) & (scores < 1)).all()


def test_policies_without_state_refuse_that_of_another():
    policy = make_policy("static")
    policy.load_state(*policy.state())
    with pytest.raises(CheckpointError, match="'static' has no state"):
        policy.load_state({"a": np.ones(1)}, {})


# -- benefit and damage -----------------------------------------------------------------------------------------------


def by_damage(weight=1.0):
    return make_policy("reactive", target=make_target("damage", damage_weight=weight))


@pytest.mark.parametrize("step", [0, 20, 50])
def test_damage_of_weight_zero_is_utility(step):
    series = run()
    damage = np.random.default_rng(0).normal(size=series.values.shape).astype(np.float32) * 100
    seen = view(step, series, damage=damage)
    utility = make_policy("reactive", target=make_target("utility", preconditioner="moves")).mask(seen)
    assert by_damage(0.0).mask(seen) == utility == make_policy("reactive").mask(seen)
    assert by_damage(1.0).mask(seen) != utility


def test_a_component_is_dropped_as_soon_as_its_harm_outweighs_its_benefit():
    benefit, damage = np.ones((32, 6)), np.zeros((32, 6))
    benefit[5], damage[5] = 10, 6
    for weight, taken in ((0.0, True), (1.49, True), (1.51, False)):
        seen = view(series=series_of(TABLE, benefit), damage=damage.astype(np.float32), n_vectors=4)
        assert (5 in by_damage(weight).mask(seen).components) == taken


def test_the_budget_is_filled_even_where_all_do_more_harm_than_good():
    series = run()
    mask = by_damage().mask(view(series=series, damage=series.values * 3))
    assert mask == select(-series.values[:, -1], TABLE, BUDGET)


def test_harm_that_can_be_foreseen_is_avoided_before_it_comes():
    damage = np.zeros((32, 6), np.float32)
    benefit = np.ones((32, 6))
    benefit[7], damage[7] = 10, np.arange(6) * 1.6  # 8 now, 12.8 in the middle of the rest
    seen = view(series=series_of(TABLE, benefit), damage=damage, n_vectors=4, horizon=50)

    def forecast_by(name):
        target = make_target("damage")
        return make_policy("foresight", target=target, forecaster=make_forecaster(name), gate=False).mask(seen)

    assert 7 in by_damage().mask(seen).components
    assert 7 in forecast_by("persistence").components
    assert 7 not in forecast_by("drift").components


def test_damage_that_is_not_measured_or_does_not_fit():
    with pytest.raises(ConfigError, match="target 'damage' needs damage at every snapshot"):
        by_damage().mask(view(series=run(), damage=None))
    with pytest.raises(CheckpointError, match="policy 'reactive' has no state"):
        by_damage().load_state({"a": np.zeros(1)}, {})
