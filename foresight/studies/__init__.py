"""Grids of runs and what they say: compare, track, evidence, bench."""
