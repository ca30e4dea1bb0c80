"""Template: a forecaster from a function. `foresight forecasters check MODULE:last_three` tests it."""

from .. import from_function


def mean_of_last_three(series, horizon):
    return series.values[:, -3:].mean(axis=1)


last_three = from_function(mean_of_last_three)
