"""Rules about the object: parameters, errors, side effects, state. A forecaster that breaks one: AssertionError."""

from __future__ import annotations

import json
from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import numpy as np
from safetensors.numpy import load as load_tensors
from safetensors.numpy import save as save_tensors
from sklearn.base import clone
from sklearn.exceptions import NotFittedError

from ...common.errors import CheckpointError, ConfigError, NonFiniteError, TrajectoryError
from ..forecaster import Forecaster
from . import require
from .cases import HORIZON, N, histories, irregular, ready, scores, series_of


def parameters_untouched(forecaster: Forecaster) -> None:
    """`pretrain`, `fit`, `update`, `predict` and `state` leave the parameters as they were."""
    made = ready(forecaster)
    before = made._identity(), {key: id(value) for key, value in made.get_params(deep=False).items()}
    made.pretrain(histories()).fit(irregular()).predict(HORIZON)
    made.update(500, scores()[:, 0]).predict(HORIZON)
    made.state()
    after = made._identity(), {key: id(value) for key, value in made.get_params(deep=False).items()}
    require.that(before == after, f"parameters were {before[0]['params']} and became {after[0]['params']}")


def clone_round_trip(forecaster: Forecaster) -> None:
    """`__init__` and `set_params` only store, and a clone has the parameters and nothing that was learned."""
    params = forecaster.get_params(deep=False)
    built = type(forecaster)(**params)
    extra = sorted(set(vars(built)) ^ set(params))
    require.that(not extra, f"__init__ sets {extra} besides parameters")
    for key, value in params.items():
        require.that(getattr(built, key) is value, f"__init__ stores another object for {key!r} than it was given")
        mark = object()
        require.that(built.set_params(**{key: mark}) is built, "set_params does not return self")
        require.that(built.get_params(deep=False)[key] is mark, f"set_params does not store {key!r}")
    fitted = ready(forecaster).fit(irregular())
    copy = clone(fitted)
    require.that(copy._identity() == fitted._identity(), "a clone has other parameters")
    learned = [key for key in vars(copy) if key not in params]
    require.that(not learned, f"a clone keeps what was learned: {learned}")


def not_fitted_error(forecaster: Forecaster) -> None:
    """Before `fit`, `predict` and `update` raise NotFittedError."""
    made = ready(forecaster)
    require.refused(made.predict, (NotFittedError,), "predict before fit", 1)
    require.refused(made.update, (NotFittedError,), "update before fit", 1, np.ones(N, np.float32))


def bad_horizons_refused(forecaster: Forecaster) -> None:
    """A horizon that is not a whole number of at least one step raises ConfigError."""
    made = ready(forecaster).fit(irregular())
    bad: list[Any] = [0, -1, 1.5, True, "10", None]
    for horizon in bad:
        require.refused(made.predict, (ConfigError,), f"predict({horizon!r})", horizon)


def inputs_untouched(forecaster: Forecaster) -> None:
    """Series, histories and snapshots that are passed in stay as they are; a prediction belongs to the caller."""
    made, series, past, snapshot = ready(forecaster), irregular(), histories(), scores()[:, 0].astype(np.float32)
    before = deepcopy((series, *past)), snapshot.copy()
    made.pretrain(past).fit(series)
    first = made.predict(HORIZON).copy()
    made.predict(HORIZON)[:] = 0
    require.equal(made.predict(HORIZON), first, "writing into a prediction changes the next one")
    made.update(500, snapshot)
    snapshot_after = snapshot.copy()
    updated = made.predict(HORIZON)
    snapshot[:] = 0
    require.equal(made.predict(HORIZON), updated, "writing into a snapshot after update changes the prediction")
    require.equal(snapshot_after, before[1], "update changed the snapshot it was given")
    for each, copied in zip((series, *past), before[0], strict=True):
        for field in (field for field, array in vars(copied).items() if array is not None):
            now, array = getattr(each, field), getattr(copied, field)
            require.that(np.array_equal(now, array), f"{field} of a series was changed")
            require.that(not now.flags.writeable, f"{field} of a series was made writeable")


def random_state_untouched(forecaster: Forecaster) -> None:
    """The global random states of Python, NumPy and (where it is loaded) torch are left alone: training uses them."""
    made, series, past = ready(forecaster), irregular(), histories()
    # An unusual seed: a forecaster that sets the same one would go unnoticed.
    with require.globally_seeded(271_828) as changed:
        made.pretrain(past).fit(series).predict(HORIZON)
        names = ", ".join(changed())
    require.that(not names, f"the global random state of {names} was changed; use a generator of your own")


def nan_refused(forecaster: Forecaster) -> None:
    """NaN and infinity in a snapshot are refused and change nothing."""
    made, series = ready(forecaster).fit(irregular()), irregular()
    expected = made.predict(HORIZON)
    for value in (np.nan, np.inf):
        bad = scores()[:, 0]
        bad[3] = value
        refused = (NonFiniteError, TrajectoryError)
        require.refused(made.update, refused, f"update with {value}", 500, bad)
        require.refused(series.extended, refused, f"a series with {value}", 500, bad)
        require.equal(made.predict(HORIZON), expected, f"a refused snapshot with {value} changed something")


def bad_updates_refused(forecaster: Forecaster) -> None:
    """A snapshot of another shape, at no later step, or with negative scores is refused and changes nothing."""
    made = ready(forecaster).fit(irregular())
    expected, last, good = made.predict(HORIZON), int(made.series_.steps[-1]), scores()[:, 0]
    cases = {
        "too few components": (500, good[:-1]),
        "too many components": (500, np.append(good, 1)),
        "two dimensions": (500, good[:, None]),
        "the last step again": (last, good),
        "an earlier step": (last - 1, good),
        "negative scores": (500, -good),
    }
    for what, case in cases.items():
        require.refused(made.update, (TrajectoryError,), f"update with {what}", *case)
        require.equal(made.predict(HORIZON), expected, f"update with {what} was refused and still changed something")


def state_round_trip(forecaster: Forecaster) -> None:
    """State survives safetensors and JSON: equal predictions, and equal ones after further updates."""
    for made in (ready(forecaster), ready(forecaster).pretrain(histories())):
        unfitted = _restored(made)
        made.fit(irregular())
        again = _restored(made)
        require.equal(unfitted.fit(irregular()).predict(HORIZON), made.predict(HORIZON), "state before fit, then fit")
        require.equal(again.predict(HORIZON), made.predict(HORIZON), "predictions of a restored forecaster")
        for one in (made, again):
            one.update(500, scores()[:, 1])
        require.equal(again.predict(HORIZON), made.predict(HORIZON), "a restored forecaster after an update")


def hostile_state_refused(forecaster: Forecaster) -> None:
    """A state that is damaged, foreign or malicious raises CheckpointError and changes nothing."""
    made = ready(forecaster).pretrain(histories()).fit(irregular())
    expected, (arrays, data) = made.predict(HORIZON), made.state()
    for what, case in _hostile(arrays, data):
        require.refused(made.load_state, (CheckpointError,), f"load_state with {what}", *case)
        require.equal(made.predict(HORIZON), expected, f"a state with {what} was refused and still changed something")


def pretraining(forecaster: Forecaster) -> None:
    """`pretrain` takes runs of other sizes, even short ones, returns self, and `fit` works after it."""
    made = ready(forecaster)
    past = [*histories(), series_of(scores(6, 2)), series_of(scores(6, 1))]
    require.that(made.pretrain(past) is made, "pretrain does not return self")
    require.scores(made.fit(irregular()).predict(HORIZON), (N,), "prediction after pretraining")
    require.refused(made.pretrain, (ConfigError,), "pretrain without a run", [])


def _restored(made: Forecaster) -> Forecaster:
    arrays, data = made.state()
    for key, array in arrays.items():
        plain = isinstance(array, np.ndarray) and not array.dtype.hasobject
        require.that(plain, f"state: {key!r} is {type(array).__name__}; expected a plain array")
    read = load_tensors(save_tensors({key: array.copy(order="C") for key, array in arrays.items()}))
    return clone(made).load_state(read, json.loads(json.dumps(data, allow_nan=False)))


def _hostile(arrays: dict[str, np.ndarray], data: dict[str, Any]) -> Iterator[tuple[str, tuple[Any, Any]]]:
    for key, array in arrays.items():
        yield f"{key!r} missing", ({k: v for k, v in arrays.items() if k != key}, data)
        changes: dict[str, np.ndarray] = {
            "of Python objects": np.array([{"a": 1}], object),
            "of complex numbers": array.astype(np.complex64),
            "with one dimension more": array[None],
        }
        if array.dtype.kind == "f":
            changes["full of NaN"] = np.full_like(array, np.nan)
        if array.size:
            changes["empty"] = array[:0] if array.ndim else np.zeros(0, array.dtype)
        for what, change in changes.items():
            yield f"{key!r} {what}", ({**arrays, key: change}, data)
    for key in ("extra", "series.extra", "pretrained.extra", "../../outside", "/etc/passwd", "series.__class__", ""):
        yield f"an entry {key!r}", ({**arrays, key: np.zeros(3, np.float32)}, data)
    yield "no arrays", ({}, data)
    lies: dict[str, dict[str, Any]] = {
        "another version": {"version": 99},
        "another forecaster": {"forecaster": "foresight_absent_module:Forecaster"},
        "other parameters": {"params": {"__class__": "os.system"}},
        "a lie about fit": {"fitted": False},
        "a lie about pretraining": {"pretrained": not data.get("pretrained")},
        "a fit that is no bool": {"fitted": "yes"},
        "an unknown key": {"callback": "os:system"},
    }
    for what, lie in lies.items():
        yield what, (arrays, {**data, **lie})
    yield "no JSON part", (arrays, {})
    yield "a JSON part that is a list", (arrays, ["fitted"])
