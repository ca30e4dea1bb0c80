"""How forecasters are found by name: built-in ones, plug-ins, modules; and what importing them costs."""

import subprocess
import sys

import numpy as np
import pytest

import foresight.forecasters as registry
from foresight.common import plugins
from foresight.common.errors import CheckpointError, ConfigError, UnknownNameError
from foresight.forecasters import Forecaster, forecaster_names, make_forecaster, register
from foresight.trajectory.series import Series
from support.forecasting import walk


@pytest.mark.parametrize("name", registry.BUILT_IN)
def test_names_and_classes_agree(name):
    assert make_forecaster(name).name == name and name in forecaster_names()
    assert registry.REGISTRY.origin(name) == "built-in"


def test_unknown_names_and_parameters_suggest_the_closest():
    with pytest.raises(UnknownNameError, match="did you mean 'ridge'"):
        make_forecaster("rigde")
    with pytest.raises(ConfigError, match="no parameter 'alhpa' .did you mean 'alpha'"):
        make_forecaster("ridge", alhpa=1)
    with pytest.raises(ConfigError, match="it has: none"):
        make_forecaster("persistence", alpha=1)


class Half(Forecaster):
    """A forecaster as a third party would write it."""

    def _fit(self, series: Series) -> None:
        self.half_ = series.values[:, -1] / 2

    def _predict(self, horizon: int) -> np.ndarray:
        return self.half_


@pytest.fixture
def clean_registry(monkeypatch):
    monkeypatch.setattr(registry.REGISTRY, "_registered", dict(registry.REGISTRY._registered))


def test_registering_ones_own(clean_registry):
    register("half")(Half)
    forecaster = make_forecaster("half").fit(walk())
    np.testing.assert_allclose(forecaster.predict(5), walk().values[:, -1] / 2)
    arrays, data = forecaster.state()
    np.testing.assert_array_equal(make_forecaster("half").load_state(arrays, data).predict(5), forecaster.predict(5))
    register("half")(Half)  # the same class again is harmless
    for taken in ("half", "ridge"):
        with pytest.raises(ConfigError, match="exists already"):
            register(taken)(type("Other", (Half,), {}))
    with pytest.raises(ConfigError, match="not a subclass"):
        register("function")(lambda series: series)


def test_entry_points_are_loaded_only_when_named(clean_registry, monkeypatch):
    loaded = []

    class Point:
        name = "plugin"
        dist = None
        value = "plugin_module:Half"

        def load(self):
            loaded.append(self.name)
            return Half

    points = [Point()]
    monkeypatch.setattr(plugins, "entry_points", lambda group: points if group == "foresight.forecasters" else [])
    assert "plugin" in forecaster_names()
    make_forecaster("persistence")
    assert loaded == []
    assert registry.REGISTRY.origin("plugin") == "plugin_module:Half" and loaded == []
    assert isinstance(make_forecaster("plugin"), Half) and loaded == ["plugin"]


@pytest.mark.parametrize("broken", [lambda: 1 / 0, lambda: print])
def test_packages_that_offer_no_forecaster_are_named(clean_registry, monkeypatch, broken):
    class Point:
        name, dist, value = "plugin", None, "plugin_module:Half"
        load = staticmethod(broken)

    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point()])
    with pytest.raises(ConfigError, match="'plugin'.*(plugin_module:Half cannot be imported|expected a subclass)"):
        make_forecaster("plugin")
    monkeypatch.setattr(plugins, "entry_points", lambda group: [Point(), Point()])
    with pytest.raises(ConfigError, match="offered by plugin_module:Half and plugin_module:Half; uninstall one"):
        make_forecaster("plugin")


MINE = """
import sys
from foresight.forecasters import Forecaster, from_function
sys.imported_mine = True
class Mine(Forecaster):
    def __init__(self, share=0.5):
        self.share = share
    def _fit(self, series):
        pass
    def _predict(self, horizon):
        return self.share * self.series_.values[:, -1]
class Outer:
    Inner = Mine
def last(series, horizon):
    return series.values[:, -1]
mine = from_function(last)
number = 3
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of a module that lies in the working folder; whether it is imported is `sys.imported_mine`."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "imported_mine", False, raising=False)
    monkeypatch.chdir(tmp_path)
    name = f"mine_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(MINE)
    yield name
    sys.modules.pop(name, None)


def test_a_class_is_found_by_its_module(module):
    made = make_forecaster(f"{module}:Mine", share=0.25).fit(walk())
    np.testing.assert_allclose(made.predict(1), walk().values[:, -1] / 4)
    assert made.name == f"{module}:Mine" and registry.REGISTRY.origin(made.name) == module
    assert type(make_forecaster(f"{module}:Outer.Inner")) is type(made)
    np.testing.assert_array_equal(make_forecaster(f"{module}:mine").fit(walk()).predict(1), walk().values[:, -1])
    with pytest.raises(ConfigError, match="no parameter 'shaer' .did you mean 'share'"):
        make_forecaster(f"{module}:Mine", shaer=1)


def test_modules_without_it_are_explained(module, tmp_path):
    (tmp_path / f"{module}_broken.py").write_text("1 / 0")
    for path, problem in {
        f"{module}:Mien": r"no 'Mien' .did you mean 'Mine'",
        f"{module}:number": "is 3; expected a subclass",
        f"{module}:last": "from_function",
        "absent_module:Mine": "importing 'absent_module' failed",
        f"{module}_broken:Mine": "ZeroDivisionError",
        f"{module}:": "not of the form module:Class",
        f"../{module}:Mine": "not of the form module:Class",
        f"{module}:Mine()": "not of the form module:Class",
    }.items():
        with pytest.raises(ConfigError, match=problem):
            make_forecaster(path)


def test_nothing_installed_is_shadowed_by_the_working_folder(module, tmp_path):
    (tmp_path / "colorsys.py").write_text("raise SystemExit")
    make_forecaster(f"{module}:Mine")
    with pytest.raises(ConfigError, match="has no 'Mine'"):
        make_forecaster("colorsys:Mine")


def test_a_state_names_a_module_only_to_be_compared(module):
    arrays, data = make_forecaster("persistence").fit(walk()).state()
    foreign = {**data, "forecaster": f"{module}:Mine", "params": {"share": 0.5}}
    with pytest.raises(CheckpointError, match=f"{module}:Mine"):
        make_forecaster("persistence").load_state(arrays, foreign)
    assert not sys.imported_mine
    own = make_forecaster(f"{module}:Mine")  # the user names it, so it is imported, and the state fits
    assert sys.imported_mine
    np.testing.assert_allclose(own.load_state(arrays, foreign).predict(1), walk().values[:, -1] / 2)


# Removed names, and a light import


@pytest.mark.parametrize("name", registry.REMOVED)
def test_a_removed_forecaster_is_answered_by_what_replaces_it(name):
    for answer in (make_forecaster, registry.REGISTRY.check_name):
        with pytest.raises(ConfigError, match=f"forecaster {name!r} was removed; use .* instead"):
            answer(name)


def test_a_plug_in_may_have_a_removed_name(clean_registry):
    register("forest")(Half)
    registry.REGISTRY.check_name("forest")
    assert isinstance(make_forecaster("forest"), Half)


@pytest.mark.parametrize(
    "name, problem", [("rigde", "did you mean 'ridge'"), ("my module:Mine", "not of the form module:Class")]
)
def test_a_wrong_name_is_known_without_importing_a_forecaster(name, problem):
    with pytest.raises(ConfigError, match=problem):
        registry.REGISTRY.check_name(name)
    registry.REGISTRY.check_name("module_that_does_not_exist:Mine")


LIGHT = """
import sys
import foresight.forecasters as registry
registry.REGISTRY.check_name("ridge")
heavy = {"torch", "sklearn", "scipy", "numpy", "pandas", "matplotlib"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
registry.experienced(registry.DEFAULT)
loaded = {name.rpartition(".")[2] for name in sys.modules if name.startswith("foresight.forecasters.")}
assert loaded == {"forecaster", "relative", "stacking", "simple", "local_level", "trend"}, loaded
assert "torch" not in sys.modules and "sklearn.linear_model" not in sys.modules
"""


def test_only_the_forecaster_that_is_asked_for_is_imported():
    done = subprocess.run([sys.executable, "-c", LIGHT], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
