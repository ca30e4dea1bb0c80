"""The same rule picks a learning rate and an optimizer memory for every arm."""

from foresight.studies.compare.part import tune
from foresight.studies.compare.results import Cell, Measures, Record


def run(rate: float, area: float | None, task: str = "t", memory: str = "m", model: str = "one") -> Record:
    cell = Cell("tune", "static", task, model, learning_rate=rate, memory=memory)
    measures = None if area is None else Measures({task: 0.5}, log_loss_area=area)
    return Record(f"{rate}{task}{memory}{model}", cell, {}, measures, None if measures else "NaN")


def test_the_lowest_area_over_all_tasks_and_models_is_taken():
    runs = [run(0.1, -1.0, "a"), run(0.1, 1.0, "a", model="two"), run(0.2, -0.5, "a"), run(0.2, -0.5, "a", model="two")]
    assert tune(runs).learning_rate == 0.2
    assert tune(runs).areas == {"m": {0.1: 0.0, 0.2: -0.5}}
    assert tune(runs).at_edge


def test_a_rate_that_diverges_anywhere_is_out():
    runs = [run(0.1, -1.0, "a"), run(0.2, -9.0, "a"), run(0.2, None, "b"), run(0.1, -1.0, "b")]
    assert tune(runs).learning_rate == 0.1
    assert tune(runs).areas == {"m": {0.1: -1.0, 0.2: None}}
    nothing = tune([run(0.1, None)])
    assert (nothing.learning_rate, nothing.memory, nothing.at_edge) == (None, None, False)
    assert tune([]).learning_rate is None


def test_equal_rates_go_to_the_smallest():
    runs = [run(0.2, -1.0), run(0.1, -1.0), run(0.4, -0.9)]
    assert (tune(runs).learning_rate, tune(runs).at_edge) == (0.1, True)
    assert tune([*runs, run(0.2, -1.02)]).learning_rate == 0.2


def test_memories_that_cannot_be_told_apart_go_to_the_first_named_at_its_best_rate():
    runs = [run(0.1, -1.0, memory="z"), run(0.1, -1.02, memory="a"), run(0.2, -1.01, memory="z")]
    assert (tune(runs).learning_rate, tune(runs).memory) == (0.2, "z")
    assert tune(runs[1:]).memory == "a"
    assert tune([*runs, run(0.4, -1.07, memory="a")]).memory == "a"


def test_a_memory_that_failed_at_every_rate_is_out():
    assert tune([run(0.1, None, memory="z"), run(0.1, 3.0, memory="a")]).memory == "a"


def test_a_better_memory_is_taken_with_its_own_rate():
    runs = [
        run(0.1, -1.0, memory="x"),
        run(0.2, -1.1, memory="x"),
        run(0.1, -1.0, memory="y"),
        run(0.2, -2.0, memory="y"),
    ]
    assert (tune(runs).learning_rate, tune(runs).memory, tune(runs).at_edge) == (0.2, "y", True)


def test_a_single_rate_has_no_edge():
    assert not tune([run(0.1, -1.0)]).at_edge
