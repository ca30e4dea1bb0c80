"""Dense sums are exact; the others are as small as they claim, with errors as small as they may be."""

import pytest
import torch

from foresight.common.errors import CheckpointError, ConfigError
from foresight.forecasters.single_weights.sums import DISPLACEMENT, MEMORIES, OF_GRADIENT, WeightSums, running_sum

ROWS, COLUMNS = 6, 40


def stream(steps=25, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(ROWS, COLUMNS, generator=generator) for _ in range(steps)]


@pytest.mark.parametrize(
    ("form", "nbytes"),
    [("dense", 4 * 240), ("low-precision", 240 + 4 * ROWS + 8), ("factored", 8 * (ROWS + COLUMNS))],
)
def test_bytes_are_those_of_the_form_and_do_not_grow(form, nbytes):
    kept = running_sum(form, ROWS, COLUMNS)
    for values in stream():
        kept.add(values.abs())
        assert kept.nbytes == nbytes


def test_dense_is_the_sum_and_reading_is_a_copy():
    kept = running_sum("dense", ROWS, COLUMNS)
    for values in stream():
        kept.add(values)
    assert torch.equal(kept.read(), sum(stream()))
    kept.read().zero_()
    assert kept.read().any()


def test_low_precision_errs_by_at_most_a_step_per_addition_and_not_in_the_mean():
    exact, kept = sum(stream()), running_sum("low-precision", ROWS, COLUMNS)
    bound = torch.zeros(ROWS, 1)
    for values in stream():
        kept.add(values)
        bound += kept.tensors["scale"]
    assert ((kept.read() - exact).abs() <= bound + 1e-5).all()
    # small steps beside a large one: rounded to nearest, all of them would be lost
    kept = running_sum("low-precision", 1, 2000)
    step = torch.full((1, 2000), 0.1)
    step[0, 0] = 0
    kept.add(torch.eye(1, 2000) * 127)
    for _ in range(50):
        kept.add(step)
    assert kept.read()[0, 1:].mean() == pytest.approx(5.0, abs=0.2)


def test_factored_is_exact_for_an_outer_product_and_keeps_row_and_column_sums():
    row, column = torch.rand(ROWS, 1) + 0.1, torch.rand(1, COLUMNS) + 0.1
    kept = running_sum("factored", ROWS, COLUMNS)
    for factor in (1.0, 2.0):
        kept.add(factor * row * column)
    assert torch.allclose(kept.read(), 1.5 * row * column, rtol=1e-4)  # a mean over additions
    other = running_sum("factored", ROWS, COLUMNS)
    values = stream(1)[0].abs()
    other.add(values)
    assert torch.allclose(other.read().sum(1), values.sum(1), rtol=1e-4)
    assert torch.allclose(other.read().sum(0), values.sum(0), rtol=1e-4)
    assert not running_sum("factored", ROWS, COLUMNS).read().any()


def test_factored_learns_all_weights_from_a_sample_of_them():
    generator = torch.Generator().manual_seed(1)
    true = (torch.rand(200, 1, generator=generator) + 0.05) * (torch.rand(1, 300, generator=generator) + 0.05)
    seen = torch.rand(true.shape, generator=generator) < 0.1
    kept = running_sum("factored", *true.shape)
    kept.add(true * seen, seen)
    best, goal = (set(m.flatten().topk(6000).indices.tolist()) for m in (kept.read(), true))
    assert len(best & goal) > 0.7 * 6000  # by chance a tenth


@pytest.mark.parametrize("form", MEMORIES)
def test_a_saved_and_loaded_sum_continues_as_if_uninterrupted(form):
    one, values = running_sum(form, ROWS, COLUMNS), [v.abs() for v in stream(6)]
    other = running_sum(form, ROWS, COLUMNS)
    for v in values[:3]:
        one.add(v)
    other.load(one.tensors)
    for v in values[3:]:
        one.add(v)
        other.add(v)
    assert torch.equal(one.read(), other.read())
    with pytest.raises(CheckpointError, match=f"memory '{form}' needs"):
        running_sum(form, ROWS + 1, COLUMNS).load(one.tensors)


def test_sums_are_those_by_hand():
    kept = WeightSums({"a": (ROWS, COLUMNS)}, (DISPLACEMENT, *OF_GRADIENT), "dense")
    assert kept.nbytes == 0 and not any(values.any() for values in kept.read("a").values())
    for values in stream():
        kept.stepped("a", values)
    kept.displaced("a", stream(1)[0].abs())
    assert kept.nbytes == 5 * 4 * ROWS * COLUMNS
    gradients = torch.stack(stream())
    found = kept.read("a")
    assert torch.allclose(found["gradient"], gradients.sum(0), atol=1e-5)
    assert torch.equal(found["sign"], gradients.sign().sum(0))
    assert torch.allclose(found["absolute"], gradients.abs().sum(0), rtol=1e-5)
    assert torch.allclose(found["square"], gradients.square().sum(0), rtol=1e-5)
    assert torch.equal(found["displacement"], stream(1)[0].abs())


def test_sums_that_are_not_asked_for_are_not_kept_and_state_comes_back():
    kept = WeightSums({"a": (2, 3), "b.c": (3, 2)}, ("sign", "displacement"), "low-precision")
    kept.stepped("a", torch.randn(2, 3))
    assert kept.read("a").keys() == {"sign", "displacement"} and len(kept.tensors()) == 3
    again = WeightSums(kept.shapes, kept.names, kept.form)
    again.load(kept.tensors())
    assert torch.equal(again.read("a")["sign"], kept.read("a")["sign"]) and again.nbytes == kept.nbytes
    kept.clear()
    assert kept.nbytes == 0
    for key in ("mean/a/sum", "sign/d/codes", "nonsense"):
        with pytest.raises(CheckpointError, match="which this run does not keep"):
            again.load({key: torch.zeros(2, 3)})


def test_signed_sums_in_rows_and_columns_are_refused():
    with pytest.raises(ConfigError, match="keeps no signs, which gradient, sign needs"):
        WeightSums({"a": (2, 3)}, ("displacement", "gradient", "sign"), "factored")
