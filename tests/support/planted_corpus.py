"""Corpora whose future is known by construction."""

from foresight.studies.bench.corpus import Run
from support.simulated import series


def runs(change: str, tasks: int = 6, seeds: int = 2, models: int = 1, rng_seed: int = 0) -> list[Run]:
    """Runs of `tasks` x `models` x `seeds`; those of a setting share everything but a little noise."""
    return [
        Run(f"model{m}", f"task{t}", "attribution", 1e-3, seed,
            series(change, [rng_seed, m, t], noise_seed=[rng_seed, m, t, seed]))
        for m in range(models) for t in range(tasks) for seed in range(seeds)
    ]  # fmt: skip
