"""Schedules say which mask is in force when, and survive their files; those of single weights are kept by hash."""

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from foresight.common.errors import CheckpointError, ConfigError
from foresight.masks.masks import Mask, WeightMask
from foresight.masks.schedule import MaskSchedule, StoredMask
from foresight.model.numbering import Target
from foresight.model.weight_table import WeightTable
from support.planted import make_table

TABLE = make_table(layers=3, heads=4, blocks=5)
WEIGHTS = WeightTable([Target("a", "entry", 60, 0), Target("b", "entry", 40, 60)], 1, 200)


def schedule():
    made = MaskSchedule()
    made.append(0, Mask.of([0, 1]))
    made.append(20, Mask.of([2]))
    return made


def test_a_schedule_holds_a_mask_until_the_next_entry():
    assert [schedule().at(step).components for step in (0, 19, 20, 1000)] == [(0, 1), (0, 1), (2,), (2,)]
    late = MaskSchedule()
    late.append(5, Mask.of([0]))
    with pytest.raises(ConfigError, match="no entry at or before step 4"):
        late.at(4)
    with pytest.raises(ConfigError, match="does not follow"):
        late.append(5, Mask.of([1]))
    with pytest.raises(ConfigError, match="empty"):
        late.append(6, Mask(()))


def test_a_schedule_survives_its_file(tmp_path):
    path = tmp_path / "schedule.json"
    path.write_text(json.dumps(schedule().to_json(TABLE)))
    assert MaskSchedule.read(path, TABLE).entries == schedule().entries


def test_an_edited_schedule_is_refused_until_its_checksum_is_gone(tmp_path):
    path = tmp_path / "schedule.json"
    schedule().write(path, TABLE, schedule().entries[-1][1])
    path.write_text(path.read_text().replace('"step": 0', '"step": 1'))
    with pytest.raises(ConfigError, match="schedule.json: its checksum is .* an edited one has to be without checksum"):
        MaskSchedule.read(path, TABLE)
    edited = json.loads(path.read_text())
    del edited["checksum"]
    path.write_text(json.dumps(edited))
    assert MaskSchedule.read(path, TABLE).entries[0][0] == 1


def test_schedules_of_other_models_and_other_things_are_refused(tmp_path):
    good = schedule().to_json(TABLE)
    with pytest.raises(ConfigError, match="made for vectors .*use the model and mlp_block"):
        MaskSchedule.from_json(good, make_table(blocks=6))
    bad = [
        [],
        {},
        {**good, "version": 2},
        {**good, "entries": [{"step": 0}]},
        {**good, "entries": [{"step": "x", "components": []}]},
        {**good, "entries": [{"step": 0, "components": []}]},
        {**good, "entries": [{"step": 0, "components": ["nope"]}]},
        {**good, "entries": good["entries"][::-1]},
    ]
    for data in bad:
        with pytest.raises(ConfigError):
            MaskSchedule.from_json(data, TABLE)
    (tmp_path / "torn.json").write_text(json.dumps(good)[:-3])
    for name in ("torn.json", "absent.json"):
        with pytest.raises(ConfigError, match=name):
            MaskSchedule.read(tmp_path / name, TABLE)


# -- of single weights ------------------------------------------------------------------------------------------------


def weights(*ids):
    return WeightMask(np.array(ids))


@pytest.fixture
def written(tmp_path):
    """A schedule of two masks as a run writes it, each when it comes into force; with its file."""
    made, path = MaskSchedule(), tmp_path / "schedule.json"
    for step, mask in ((0, weights(1, 5, 99)), (20, weights(7))):
        made.append(step, mask)
        made.write(path, WEIGHTS, mask)
    return made, path


def test_masks_of_weights_are_kept_by_hash_and_read_from_their_files(written):
    made, path = written
    assert made.entries == [(0, StoredMask(weights(1, 5, 99).hash, 3)), (20, StoredMask(weights(7).hash, 1))]
    read = MaskSchedule.read(path, WEIGHTS)
    assert read.entries == made.entries
    assert read.at(0) == read.at(19) == weights(1, 5, 99) and read.at(20) == weights(7)
    assert json.loads(path.read_text())["entries"][1] == {"step": 20, "mask": weights(7).hash, "weights": 1}
    assert len(list((path.parent / "masks").iterdir())) == 2


def test_a_mask_that_comes_back_has_one_file(written):
    made, path = written
    made.append(40, weights(1, 5, 99))
    made.write(path, WEIGHTS, weights(1, 5, 99))
    assert len(list((path.parent / "masks").iterdir())) == 2
    assert MaskSchedule.read(path, WEIGHTS).at(40) == weights(1, 5, 99)


def test_the_newest_mask_is_that_of_the_bank(written):
    made, _ = written
    assert made.newest(torch.tensor([7])) == weights(7)
    with pytest.raises(CheckpointError, match="not the last one of its mask schedule"):
        made.newest(torch.tensor([8]))
    assert schedule().newest(torch.tensor([0])) == Mask.of([2])  # components are in the schedule itself


@pytest.mark.parametrize("ids", [[5, 1, 99], [1, 1, 5], [1, 5, 100], [-1, 5, 99], [1.0, 5.0, 99.0], [[1, 5, 99]], [2]])
def test_a_file_that_holds_anything_else_is_refused(written, ids):
    _, path = written
    file = path.parent / "masks" / f"{weights(1, 5, 99).hash}.safetensors"
    save_file({"ids": np.array(ids)}, file)
    with pytest.raises(ConfigError, match="does not hold sorted weight ids with that hash; keep the folder 'masks'"):
        MaskSchedule.read(path, WEIGHTS).at(0)
    file.unlink()
    with pytest.raises(ConfigError, match="keep the folder 'masks' beside its schedule.json"):
        MaskSchedule.read(path, WEIGHTS).at(0)


def test_schedules_of_another_granularity_and_hashes_that_are_paths_are_refused(written):
    made, path = written
    with pytest.raises(ConfigError, match="mask schedule has version 1 and was made for"):
        MaskSchedule.from_json(made.to_json(WEIGHTS), TABLE)
    with pytest.raises(ConfigError, match="not a mask schedule .*as a run over single weights writes them"):
        MaskSchedule.from_json({**schedule().to_json(TABLE), "table": WEIGHTS.hash}, WEIGHTS)
    entry = {"step": 0, "mask": "../../elsewhere", "weights": 1}
    read = MaskSchedule.from_json({**made.to_json(WEIGHTS), "entries": [entry]}, WEIGHTS, path.parent)
    with pytest.raises(ConfigError, match="is not the hash of a mask; expected 12 hexadecimal digits"):
        read.at(0)
