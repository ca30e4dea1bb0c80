"""Benchmarks of quality and speed; each is run as `python -m eval.NAME` and writes its results under eval/results."""
