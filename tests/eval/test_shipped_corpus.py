"""What ships is what its recipe makes."""

import numpy as np
import pytest
from safetensors.numpy import load_file

from eval.shipped_corpus import named, ship
from foresight.common.errors import ConfigError
from foresight.forecasters import DEFAULT, SHIPPED_STATE, experienced, make_forecaster
from foresight.policies.prior import SHIPPED as PRIOR
from foresight.policies.prior import LayerKindPrior
from foresight.studies.bench.corpus import SHIPPED, read_corpus, write_corpus
from support.planted_corpus import runs


def test_the_shipped_files_are_made_of_the_shipped_corpus(tmp_path):
    made = ship(read_corpus(SHIPPED), tmp_path)
    for file in made:
        ours, shipped = file.read_bytes(), (SHIPPED.parent / file.name).read_bytes()
        if ours != shipped:  # what is learned may differ in the last bits from processor to processor
            assert file.suffix == ".safetensors", file.name
            learned, known = load_file(file), load_file(SHIPPED.parent / file.name)
            assert learned.keys() == known.keys()
            for name, values in known.items():
                assert np.allclose(learned[name], values, rtol=1e-6, atol=1e-9), (file.name, name)
    assert {file.name for file in made} == {SHIPPED.name, PRIOR.name, SHIPPED_STATE.name}


def test_the_default_forecaster_has_learned_from_the_corpus():
    histories = [run.series for run in read_corpus(SHIPPED)]
    own = make_forecaster(DEFAULT).pretrain(histories).fit(histories[0].until(10)).predict(20)
    shipped = experienced(DEFAULT)
    assert (shipped.fit(histories[0].until(10)).predict(20) == own).all()
    assert len(shipped.past_skills_) == 16  # tasks x models
    assert not hasattr(experienced(DEFAULT, members=["drift"]), "past_skills_")
    assert not hasattr(experienced("local_level"), "past_frequency_")


def test_runs_are_called_what_their_places_are_named(tmp_path):
    write_corpus(runs("walk", tasks=2, seeds=1), tmp_path / "a.safetensors")
    found = named([f"mine={tmp_path / 'a.safetensors'}"])
    assert {run.model for run in found} == {"mine"}
    ship(found, tmp_path / "out")
    assert [run.hash for run in read_corpus(tmp_path / "out" / SHIPPED.name)] == [run.hash for run in found]
    assert LayerKindPrior.read(tmp_path / "out" / PRIOR.name).profiles
    for place in ("no-name", "=x", "name="):
        with pytest.raises(ConfigError, match="NAME=PLACE"):
            named([place])
