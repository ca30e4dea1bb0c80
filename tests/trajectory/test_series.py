"""What a forecaster sees: checked, read-only, and back from its arrays."""

from __future__ import annotations

import numpy as np
import pytest

from foresight.common.errors import NonFiniteError, TrajectoryError
from foresight.trajectory.series import Series


def valid(**changes):
    fields = dict(
        values=np.ones((2, 3)), steps=[0, 5, 7], layer=[0, 1], kind=["head", "mlp"], index=[0, 0], vectors=[4, 3],
        name=["a", "b"],
    )  # fmt: skip
    return {**fields, **changes}


@pytest.mark.parametrize(
    "changes, error",
    [
        ({"values": np.ones(3)}, TrajectoryError),
        ({"values": np.ones((2, 0)), "steps": []}, TrajectoryError),
        ({"steps": [0, 5]}, TrajectoryError),
        ({"steps": [0, 5, 5]}, TrajectoryError),
        ({"steps": [-1, 5, 6]}, TrajectoryError),
        ({"layer": [0]}, TrajectoryError),
        ({"values": -np.ones((2, 3))}, TrajectoryError),
        ({"values": np.full((2, 3), np.nan)}, NonFiniteError),
        ({"values": np.full((2, 3), np.inf)}, NonFiniteError),
        ({"stderr": np.ones((2, 2))}, TrajectoryError),
        ({"stderr": np.full((2, 3), -1)}, TrajectoryError),
        ({"stderr": np.full((2, 3), np.inf)}, TrajectoryError),
    ],
)
def test_a_series_is_checked(changes, error):
    with pytest.raises(error):
        Series(**valid(**changes))


def test_a_series_is_a_read_only_copy():
    values = np.ones((2, 3), np.float32)
    series = Series(**valid(values=values))
    values[:] = 9
    assert (series.values == 1).all()
    with pytest.raises(ValueError, match="read-only"):
        series.values[0, 0] = 2


def test_series_arrays_round_trip():
    series = Series(**valid(name=["ä", "L0.head.1"]))
    arrays = series.arrays()
    assert all(array.dtype.kind in "fiu" for array in arrays.values())
    again = Series.from_arrays(arrays)
    for field in ("values", "steps", "layer", "kind", "index", "vectors", "name"):
        np.testing.assert_array_equal(getattr(again, field), getattr(series, field))
    for key in arrays:
        with pytest.raises(TrajectoryError):
            Series.from_arrays({k: v for k, v in arrays.items() if k != key})
        with pytest.raises(TrajectoryError):
            Series.from_arrays({**arrays, key: arrays[key].astype(np.float64)})
    with pytest.raises(TrajectoryError, match="extra"):
        Series.from_arrays({**arrays, "extra": np.zeros(2)})
    with pytest.raises(TrajectoryError, match="UTF-8"):
        Series.from_arrays({**arrays, "name": np.array([255, 10], np.uint8)})
    with pytest.raises(TrajectoryError, match="newline"):
        Series(**valid(name=["a\nb", "c"])).arrays()


def test_standard_errors_stay_with_their_scores():
    stderr = np.array([[1, np.nan, 3], [4, 5, 6]], np.float32)
    series = Series(**valid(stderr=stderr, steps=[0, 5, 9]))
    np.testing.assert_array_equal(series.until(5).stderr, stderr[:, :2])
    np.testing.assert_array_equal(series.take([1]).stderr, stderr[1:])
    longer = series.extended(20, np.ones(2))
    np.testing.assert_array_equal(longer.until(9).stderr, stderr)
    assert np.isnan(longer.stderr[:, 3]).all()
    np.testing.assert_array_equal(Series.from_arrays(series.arrays()).stderr, stderr)
    without = {key: array for key, array in series.arrays().items() if key != "stderr"}  # as earlier versions wrote it
    assert Series.from_arrays(without).extended(20, [1, 1]).stderr is None
    with pytest.raises(TrajectoryError, match="'stderr' is missing or not float32"):
        Series.from_arrays(series.arrays() | {"stderr": stderr.astype(np.float64)})
