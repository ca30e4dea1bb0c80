import json

import numpy as np
import pytest

from foresight.common.errors import ConfigError
from foresight.masks.masks import Mask, churn, everything
from foresight.masks.schedule import MaskSchedule
from support.planted import make_table

TABLE = make_table(layers=3, heads=4, blocks=5)


def test_masks_are_sets():
    assert Mask.of([3, 1, 3]) == Mask.of(np.array([1, 3])) == Mask((1, 3))
    assert Mask.of([1, 3]).hash == Mask.of([3, 1]).hash != Mask.of([1, 2]).hash
    assert len(everything(TABLE)) == len(TABLE)
    assert Mask.from_names(Mask.of([0, 9]).names(TABLE), TABLE) == Mask.of([0, 9])


@pytest.mark.parametrize("name", ["L0.head.9", 3, None, ["L0.head.1"]])
def test_names_that_do_not_exist(name):
    with pytest.raises(ConfigError, match="does not exist"):
        Mask.from_names([name], TABLE)


def test_churn():
    assert churn(Mask.of([1, 2]), Mask.of([2, 3])) == 0.5
    assert churn(Mask.of([1, 2]), Mask.of([1, 2])) == 0 and churn(Mask(()), Mask.of([1])) == 1


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


def test_schedules_of_other_models_and_other_things_are_refused(tmp_path):
    good = schedule().to_json(TABLE)
    with pytest.raises(ConfigError, match="component table"):
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
