"""Functions and scikit-learn regressors as forecasters."""

import numpy as np
import pytest
from sklearn.base import BaseEstimator
from sklearn.ensemble import ExtraTreesRegressor
from sklearn.linear_model import Lasso, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.tree import DecisionTreeRegressor

from foresight.common.errors import CheckpointError, ConfigError
from foresight.forecasters import from_function, from_regressor, make_forecaster
from foresight.forecasters.conformance import parametrize_with_checks
from foresight.trajectory.metrics import skill
from support.planted import make_series, random_walk, trends


def twice(series, horizon):
    return 2 * series.values[:, -1] + horizon


def thrice(series, horizon):
    return 3 * series.values[:, -1]


RANDOM = DecisionTreeRegressor(splitter="random", max_depth=4)
TREE = from_regressor(RANDOM)
PIPELINE = from_regressor(make_pipeline(StandardScaler(), Lasso(0.01)), max_rows=2000)


@parametrize_with_checks([from_function(twice), TREE, PIPELINE])
def test_wrapped_forecasters_keep_the_contract(forecaster, check):
    check(forecaster)


def test_a_function_sees_the_series_and_the_horizon():
    series = make_series(random_walk(30, 5))
    prediction = from_function(twice).fit(series).predict(7)
    np.testing.assert_allclose(prediction, 2 * series.values[:, -1] + 7, rtol=1e-6)
    with pytest.raises(ConfigError, match="expected a function"):
        from_function(3).fit(series)


def test_a_function_that_writes_into_the_series_is_stopped():
    def vandal(series, horizon):
        series.values[:] = 0

    with pytest.raises(ValueError, match="read-only"):
        from_function(vandal).fit(make_series(random_walk(30, 5))).predict(1)


def test_a_state_names_the_function():
    arrays, data = from_function(twice).fit(make_series(random_walk(30, 5))).state()
    assert data["params"] == {"function": f"{__name__}:twice"}
    with pytest.raises(CheckpointError, match="thrice"):
        from_function(thrice).load_state(arrays, data)


def test_a_function_without_a_lasting_name_cannot_be_saved():
    class Callable:
        def __call__(self, series, horizon):
            return series.values[:, -1]

    with pytest.raises(ConfigError, match="no name that a saved state could give it"):
        from_function(Callable()).fit(make_series(random_walk(30, 5))).state()


def test_a_wrapped_ridge_learns_trends():
    values = trends(300, 16)
    made = from_regressor(Ridge(1.0)).fit(make_series(values[:, :12]))
    assert skill(made.predict(40), values[:, -1], values[:, 11]) > 0.1


def test_a_wrapped_regressor_is_the_pooled_forecaster_of_its_kind():
    series, past = make_series(random_walk(60, 12)), [make_series(random_walk(40, 9, 3))]
    built_in = make_forecaster("boosting", max_iter=5).pretrain(past).fit(series)
    wrapped = from_regressor(built_in._regressor(1)).pretrain(past).fit(series)
    np.testing.assert_array_equal(wrapped.predict(30), built_in.predict(30))


@pytest.mark.parametrize("regressor", [RANDOM, ExtraTreesRegressor(3, max_depth=3), make_pipeline(RANDOM)])
def test_open_random_states_are_set_in_a_copy(regressor):
    series = make_series(random_walk(60, 12))
    one, two = (from_regressor(regressor).fit(series).predict(30) for _ in range(2))
    np.testing.assert_array_equal(one, two)
    assert all(v is None for k, v in regressor.get_params().items() if k.endswith("random_state"))
    assert not hasattr(regressor, "tree_")


def test_a_state_holds_the_training_set_and_no_pickle():
    made = from_regressor(DecisionTreeRegressor(max_depth=3), max_rows=500)
    made.pretrain([make_series(random_walk(60, 9, 3))]).fit(make_series(random_walk(60, 12)))
    arrays, data = made.state()
    assert not any(array.dtype.hasobject for array in arrays.values())
    assert 0 < len(arrays["pretrained.changes"]) <= 500
    assert data["params"]["regressor"]["class"].endswith(":DecisionTreeRegressor")
    assert data["params"]["regressor"]["params"]["max_depth"] == 3
    with pytest.raises(CheckpointError, match="max_depth"):
        from_regressor(DecisionTreeRegressor(max_depth=4), max_rows=500).load_state(arrays, data)


class Transformer(BaseEstimator):
    def fit(self, x, y=None):
        return self


@pytest.mark.parametrize("bad", [Ridge, Transformer(), "ridge", None])
def test_anything_but_a_regressor_is_refused(bad):
    with pytest.raises(ConfigError, match="expected a scikit-learn regressor"):
        from_regressor(bad).fit(make_series(random_walk(30, 5)))
