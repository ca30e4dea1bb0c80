import json
import time
from types import SimpleNamespace

import numpy as np
import pytest

from foresight.common.errors import ConfigError, ForesightError, NonFiniteError, TrajectoryError, UnknownNameError
from foresight.trajectory.carried import standard_errors
from foresight.trajectory.trajectory import Trajectory
from support.planted import make_table


def scores(table, seed, **changes):
    rng = np.random.default_rng(seed)
    made = dict(values=rng.normal(size=len(table)).astype(np.float32), stderr=rng.random(len(table), np.float32))
    return SimpleNamespace(**{**made, **changes})


def record(path, n=4, table=None):
    table = table or make_table()
    trajectory = Trajectory.create(path, table, model_hash="m", data_hash="d", info={"task": "toy"})
    for i in range(n):
        trajectory.append(i * 10, {"attribution": scores(table, i), "movement": scores(table, 100 + i)})
    return trajectory


def files(path):
    return sorted((path / "snapshots").iterdir())


def contents(path):
    return {str(f.relative_to(path)): f.read_bytes() for f in path.rglob("*") if f.is_file()}


def stderr(trajectory, scorer):
    return np.stack([snapshot.scores[scorer].stderr for snapshot in trajectory.snapshots])


def same(a, b):
    assert a.steps.tolist() == b.steps.tolist()
    for scorer in ("attribution", "movement"):
        np.testing.assert_array_equal(a.values(scorer), b.values(scorer))
        np.testing.assert_array_equal(stderr(a, scorer), stderr(b, scorer))


def test_what_was_written_is_read(tmp_path):
    written = record(tmp_path / "run")
    read = Trajectory.read(tmp_path / "run")
    same(written, read)
    for field in ("table_hash", "model_hash", "data_hash", "versions", "info", "calibration"):
        assert getattr(read, field) == getattr(written, field)
    assert read.info == {"task": "toy"} and read.model_hash == "m" and "numpy" in read.versions
    for field, array in written.components.items():
        np.testing.assert_array_equal(read.components[field], array)
    assert sorted(read.scorers) == ["attribution", "movement"] and len(read) == 4


def test_memory_only_equals_the_folder(tmp_path):
    same(record(None), record(tmp_path))


def test_a_read_trajectory_leaves_the_folder_alone(tmp_path):
    record(tmp_path)
    before = contents(tmp_path)
    read = Trajectory.read(tmp_path)
    read.append(99, {name: scores(make_table(), 9) for name in read.scorers})
    assert contents(tmp_path) == before


def test_snapshot_names_carry_sequence_step_and_checksum(tmp_path):
    record(tmp_path, n=4)
    assert files(tmp_path)[3].name.startswith("000003-00000030-")
    assert len(files(tmp_path)[3].name) == len("000003-00000030-0123456789abcdef.safetensors")


def test_series_is_absolute_and_ends_at_the_cutoff_and_knows_the_factors_of_earlier_versions():
    table = make_table()
    trajectory = record(None, table=table)
    trajectory.calibration["attribution"] = {"head": 2.0, "mlp": 0.5}
    series = trajectory.series("attribution", until=25)
    factor = np.where(table.kind == "head", 2.0, 0.5)[:, None].astype(np.float32)
    np.testing.assert_allclose(series.values, np.abs(trajectory.values("attribution")[:, :3]) * factor, rtol=1e-6)
    np.testing.assert_allclose(series.stderr, stderr(trajectory, "attribution")[:3].T * factor, rtol=1e-6)
    assert series.values.dtype == np.float32 and series.steps.tolist() == [0, 10, 20] and series.steps.dtype == np.int64
    np.testing.assert_array_equal(series.name, table.name)
    np.testing.assert_allclose(trajectory.series("movement").values, np.abs(trajectory.values("movement")))


def patched(path):
    """Five snapshots of estimates t = 0, .1, .. .4; component 0 is patched at steps 10 and 30, component 1 at 20."""
    trajectory = Trajectory.create(path, table := make_table())
    for t, known in enumerate(({}, {0: 2.1}, {1: -3.0}, {0: -0.7}, {})):
        exact = np.full(len(table), np.nan, np.float32)
        exact[list(known)] = list(known.values())
        values = np.full(len(table), t / 10, np.float32)
        trajectory.append(
            10 * t, {"attribution": scores(table, t, values=values, exact=exact, exact_stderr=abs(exact) / 2)}
        )
    return trajectory


def test_what_was_patched_corrects_all_steps(tmp_path):
    for trajectory in (patched(tmp_path), Trajectory.read(tmp_path)):
        values = trajectory.series("attribution").values
        np.testing.assert_allclose(values[0], [2.0, 2.1, 0.7, 0.7, 0.6], rtol=1e-5)  # + 2, then 2 - 3 / 20 a step, - 1
        np.testing.assert_allclose(values[1], [3.2, 3.1, 3.0, 2.9, 2.8], rtol=1e-5)
        np.testing.assert_allclose(values[2:], np.tile(np.arange(5) / 10, (len(values) - 2, 1)), rtol=1e-5)
        before = trajectory.series("attribution", until=20).values
        np.testing.assert_allclose(before[0], [2.0, 2.1, 2.2], rtol=1e-5)
        plain, found = stderr(trajectory, "attribution").T, standard_errors(trajectory, "attribution")
        np.testing.assert_allclose(found[2:], plain[2:], rtol=1e-5)
        np.testing.assert_allclose(found[1], np.sqrt(plain[1] ** 2 + 1.5**2 - plain[1, 2] ** 2), rtol=1e-5)


def test_exact_effects_may_be_unknown_but_not_infinite():
    trajectory = Trajectory.create(None, table := make_table())
    with pytest.raises(NonFiniteError, match="1 exact are not finite"):
        trajectory.append(0, {"a": scores(table, 0, exact=np.r_[np.inf, np.full(len(table) - 1, np.nan)])})


def test_series_does_not_see_the_future():
    table, seen = make_table(), []
    for future in (1.0, 1e30):
        trajectory = record(None, n=3, table=table)
        later = scores(table, 5, values=np.full(len(table), future))
        trajectory.append(50, dict.fromkeys(trajectory.scorers, later))
        seen.append(trajectory.series("attribution", until=49))
    np.testing.assert_array_equal(seen[0].values, seen[1].values)
    assert seen[0].steps.tolist() == seen[1].steps.tolist() == [0, 10, 20]


def test_series_refuses_what_is_not_there():
    trajectory = record(None)
    with pytest.raises(UnknownNameError, match="attribution"):
        trajectory.series("atribution")
    with pytest.raises(TrajectoryError, match="until=-1.*first is at step 0"):
        trajectory.series("attribution", until=-1)
    with pytest.raises(TrajectoryError, match="empty"):
        Trajectory.create(None, make_table()).series("attribution")


@pytest.mark.parametrize("step", [20, 30, -1])
def test_steps_must_increase(step):
    table = make_table()
    trajectory = record(None, table=table)
    with pytest.raises(TrajectoryError, match=f"step {step} does not follow"):
        trajectory.append(step, {name: scores(table, 0) for name in trajectory.scorers})
    assert len(trajectory) == 4


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e39])
def test_values_must_be_finite(tmp_path, bad):
    table = make_table()
    values = np.ones(len(table))
    values[2] = bad
    trajectory = Trajectory.create(tmp_path, table)
    with pytest.raises(NonFiniteError, match="L0.head.2"), np.errstate(over="ignore"):
        trajectory.append(0, {"a": scores(table, 0, values=values)})
    assert len(trajectory) == 0 and files(tmp_path) == []


def test_an_unknown_standard_error_is_nan_and_kept(tmp_path):
    table = make_table()
    Trajectory.create(tmp_path, table).append(0, {"a": scores(table, 0, stderr=np.full(len(table), np.nan))})
    read = Trajectory.read(tmp_path)
    assert np.isnan(stderr(read, "a")).all() and read.series("a").stderr is None
    with pytest.raises(NonFiniteError, match="stderr"):
        Trajectory.create(None, table).append(0, {"a": scores(table, 0, stderr=np.full(len(table), np.inf))})


def test_shapes_and_scorers_are_checked():
    table = make_table()
    trajectory = record(None, table=table)
    with pytest.raises(TrajectoryError, match=r"shape \(3,\); expected \(27,\)"):
        trajectory.append(99, {"attribution": scores(table, 0), "movement": scores(table, 0, values=[1, 2, 3])})
    with pytest.raises(TrajectoryError, match="expected.*attribution.*movement"):
        trajectory.append(99, {"attribution": scores(table, 0)})
    with pytest.raises(TrajectoryError, match="at least one"):
        Trajectory.create(None, table).append(0, {})


def test_appended_arrays_are_copied():
    table = make_table()
    given = scores(table, 0)
    trajectory = Trajectory.create(None, table)
    trajectory.append(0, {"a": given})
    given.values[:] = 7
    assert not (trajectory.values("a") == 7).any()


def test_create_refuses_a_used_folder_and_info_that_is_not_json(tmp_path):
    record(tmp_path / "a")
    with pytest.raises(TrajectoryError, match="already holds"):
        record(tmp_path / "a")
    with pytest.raises(ConfigError, match="not JSON"):
        Trajectory.create(tmp_path / "b", make_table(), info={"when": object()})


def test_another_models_table_is_refused():
    with pytest.raises(TrajectoryError, match="mlp_block"):
        record(None).require_table(make_table(layers=4))
    record(None).require_table(make_table())


# Damage: (what is done to the snapshots, in which of four it strikes, what the message says).


def flip_a_bit(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(bytes(data))


def copy_as(name):
    return lambda p: p.with_name(p.name.replace("000002-00000020", name)).write_bytes(p.read_bytes())


DAMAGE = {
    "flipped bit": (flip_a_bit, "checksum"),
    "truncated": (lambda p: p.write_bytes(p.read_bytes()[:-5]), "checksum"),
    "empty": (lambda p: p.write_bytes(b""), "checksum"),
    "missing": (lambda p: p.unlink(), "snapshot 000002 is missing"),
    "copied, earlier step": (copy_as("000002-00000015"), "another snapshot"),
    "copied, later step": (copy_as("000002-00000025"), "000002 is there twice"),
    "renamed": (lambda p: p.rename(p.with_name(p.name.replace("00000020", "00000021"))), "another snapshot"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_earlier_snapshots_survive(tmp_path, kind):
    whole = record(tmp_path)
    strike, message = DAMAGE[kind]
    strike(files(tmp_path)[2])
    before = contents(tmp_path)
    with pytest.raises(TrajectoryError, match=message) as error:
        Trajectory.read(tmp_path)
    good = 3 if "twice" in message else 2
    assert "00000" in str(error.value) and f"recover=True keeps the {good} good snapshots" in str(error.value)
    kept = Trajectory.read(tmp_path, recover=True)
    assert contents(tmp_path) == before, "reading must not touch the folder"
    assert len(kept) == good
    del whole.snapshots[good:]
    same(kept, whole)


def test_a_flipped_byte_anywhere_in_a_snapshot_is_found(tmp_path):
    record(tmp_path, n=1)
    path = files(tmp_path)[0]
    data = path.read_bytes()
    for i in range(0, len(data), 7):
        path.write_bytes(data[:i] + bytes([data[i] ^ 0x10]) + data[i + 1 :])
        with pytest.raises(TrajectoryError, match="damaged"):
            Trajectory.read(tmp_path)


@pytest.mark.parametrize("name", ["meta.json", "components.safetensors"])
@pytest.mark.parametrize("strike", [flip_a_bit, lambda p: p.write_bytes(p.read_bytes()[:-5]), lambda p: p.unlink()])
def test_damaged_metadata_is_named(tmp_path, name, strike):
    record(tmp_path)
    before = [f.read_bytes() for f in files(tmp_path)]
    strike(tmp_path / name)
    with pytest.raises(TrajectoryError, match=f"{name} is damaged"):
        Trajectory.read(tmp_path, recover=True)
    with pytest.raises(TrajectoryError, match="already holds"):
        Trajectory.create(tmp_path, make_table())
    assert [f.read_bytes() for f in files(tmp_path)] == before


def test_a_newer_format_and_a_strange_folder_are_refused(tmp_path):
    with pytest.raises(TrajectoryError, match="not a trajectory folder"):
        Trajectory.read(tmp_path)
    record(tmp_path / "run")
    (tmp_path / "run" / "meta.json").write_text(json.dumps([1, 2]))
    with pytest.raises(TrajectoryError, match="meta.json is damaged"):
        Trajectory.read(tmp_path / "run")


def test_losing_the_whole_snapshot_folder_is_not_an_empty_run(tmp_path):
    record(tmp_path)
    for path in files(tmp_path):
        path.unlink()
    (tmp_path / "snapshots").rmdir()
    with pytest.raises(TrajectoryError, match="snapshots is missing"):
        Trajectory.read(tmp_path)


def test_a_torn_write_is_invisible_and_cleared_on_resume(tmp_path):
    whole = record(tmp_path)
    torn = tmp_path / "snapshots" / f".{files(tmp_path)[-1].name}.part"
    torn.write_bytes(files(tmp_path)[-1].read_bytes()[:100])
    same(Trajectory.read(tmp_path), whole)
    assert torn.exists()
    same(Trajectory.open_append(tmp_path), whole)
    assert not torn.exists()


def test_a_failed_write_leaves_no_trace(tmp_path, monkeypatch):
    table = make_table()
    trajectory = record(tmp_path, table=table)
    before = contents(tmp_path)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("foresight.common.files.os.replace", full)
    with pytest.raises(ForesightError, match="space"):
        trajectory.append(99, {name: scores(table, 0) for name in trajectory.scorers})
    assert len(trajectory) == 4 and contents(tmp_path) == before


def test_resume_continues_as_if_never_interrupted(tmp_path):
    table = make_table()
    whole = record(tmp_path / "whole", n=6, table=table)
    record(tmp_path / "run", n=4, table=table)
    resumed = Trajectory.open_append(tmp_path / "run", keep=2)
    for i in range(2, 6):
        resumed.append(i * 10, {"attribution": scores(table, i), "movement": scores(table, 100 + i)})
    same(resumed, whole)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_resume_needs_the_snapshots_it_keeps_and_no_others(tmp_path):
    record(tmp_path)
    flip_a_bit(files(tmp_path)[2])
    with pytest.raises(TrajectoryError, match="damaged"):
        Trajectory.open_append(tmp_path)
    with pytest.raises(TrajectoryError, match="damaged"):
        Trajectory.open_append(tmp_path, keep=3)
    assert len(files(tmp_path)) == 4, "a refused resume deletes nothing"
    assert len(Trajectory.open_append(tmp_path, keep=2)) == 2 and len(files(tmp_path)) == 2
    with pytest.raises(TrajectoryError, match="2 snapshots; expected at least 3"):
        Trajectory.open_append(tmp_path, keep=3)


def test_a_large_trajectory_is_read_in_seconds(tmp_path):
    table = make_table(layers=10, heads=1000, blocks=1000)
    trajectory = Trajectory.create(tmp_path, table)
    for i in range(20):
        trajectory.append(i, {"a": scores(table, i)})
    start = time.perf_counter()
    read = Trajectory.read(tmp_path).series("a")
    assert read.values.shape == (20_000, 20) and time.perf_counter() - start < 5
