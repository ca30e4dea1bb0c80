"""Masks are sets, of components or of single weights."""

import numpy as np
import pytest

from foresight.common.errors import ConfigError
from foresight.masks.masks import Mask, WeightMask, churn, every_weight, everything
from support.planted import make_table

TABLE = make_table(layers=3, heads=4, blocks=5)


def test_masks_are_sets():
    assert Mask.of([3, 1, 3]) == Mask.of(np.array([1, 3])) == Mask((1, 3))
    assert Mask.of([1, 3]).hash == Mask.of([3, 1]).hash != Mask.of([1, 2]).hash
    assert len(everything(TABLE)) == len(TABLE)
    assert Mask.from_names(Mask.of([0, 9]).names(TABLE), TABLE) == Mask.of([0, 9])


def test_masks_of_weights_are_sets_too():
    mask = WeightMask(np.array([1, 3]))
    assert mask == WeightMask(np.array([1, 3])) != WeightMask(np.array([1, 2])) and mask != Mask.of([1, 3])
    assert mask.hash == WeightMask(np.array([1, 3])).hash != WeightMask(np.array([1, 2])).hash
    assert len(mask) == 2 and len(every_weight(TABLE)) == TABLE.n_vectors
    assert churn(mask, WeightMask(np.array([3, 4]))) == 0.5 and churn(mask, mask) == 0


@pytest.mark.parametrize("name", ["L0.head.9", 3, None, ["L0.head.1"]])
def test_names_that_do_not_exist(name):
    with pytest.raises(ConfigError, match="does not exist"):
        Mask.from_names([name], TABLE)


def test_churn():
    assert churn(Mask.of([1, 2]), Mask.of([2, 3])) == 0.5
    assert churn(Mask.of([1, 2]), Mask.of([1, 2])) == 0 and churn(Mask(()), Mask.of([1])) == 1
