"""Forecasts from weights: what a component's score will be where the weights are going, instead of where scores go."""
