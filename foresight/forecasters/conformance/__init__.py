"""The rules that every forecaster must keep, and the checks that hold one to them."""
