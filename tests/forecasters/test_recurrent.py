"""The network: its horizons and its saved state. What it learns is tested with the other learners."""

import numpy as np
import pytest

from foresight.common.errors import CheckpointError
from support.forecasting import fitted, small
from support.planted import make_series, random_walk, trends


def test_the_network_holds_horizons_beyond_training():
    forecaster = fitted("recurrent", trends(60, 8), 8, max_iter=20)
    assert float(forecaster.network_.longest) == 4  # gaps 1, 2, 4 from the second of eight snapshots
    np.testing.assert_array_equal(forecaster.predict(40), forecaster.predict(4000))
    assert (forecaster.predict(40) != forecaster.predict(30)).any()


def test_a_damaged_network_is_refused():
    forecaster = small("recurrent").pretrain([make_series(random_walk(30, 8))])
    arrays, data = forecaster.state()
    weight = arrays["pretrained.head.weight"]
    for bad in (weight[:, :-1], weight.astype(np.float64), np.full_like(weight, np.nan), np.full_like(weight, 1e9)):
        with pytest.raises(CheckpointError, match="head.weight"):
            forecaster.load_state({**arrays, "pretrained.head.weight": bad}, data)
    with pytest.raises(CheckpointError, match="longest"):
        forecaster.load_state({**arrays, "pretrained.longest": np.float32(-2).reshape(())}, data)
