"""Make what ships: the corpus, the prior, and the state of the default forecaster, from recorded runs.

    python -m foresight.studies.bench.ship --runs shipped=runs/corpus/fast shipped=runs/corpus/slow second=… --out DIR

A place is given as NAME=PLACE, where NAME is what its model is called in the corpus. The recipe of the runs is
recipes/forecasters/corpus.yaml. The state is arrays and JSON in a safetensors file; no weights are in any of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from ...common.errors import ConfigError
from ...forecasters.registry import DEFAULT, SHIPPED_STATE, make_forecaster
from ...policies.prior import SHIPPED as PRIOR
from ...policies.prior import LayerKindPrior
from .corpus import SHIPPED, Run, read_runs, write_corpus


def ship(runs: Iterable[Run], out: str | Path) -> list[Path]:
    """Write corpus, prior and state into the folder `out`; return their paths."""
    runs = sorted(runs, key=lambda run: (*run.setting, run.seed))
    corpus, prior, state = Path(out) / SHIPPED.name, Path(out) / PRIOR.name, Path(out) / SHIPPED_STATE.name
    write_corpus(runs, corpus)
    histories = [run.series for run in runs]
    LayerKindPrior.learn(histories).write(prior)
    make_forecaster(DEFAULT).pretrain(histories).save(state)
    return [corpus, prior, state]


def named(places: Iterable[str]) -> list[Run]:
    """The runs of places NAME=PLACE, their models called NAME. Raises ConfigError for a place without a name."""
    found = []
    for place in places:
        name, separator, path = place.partition("=")
        if not separator or not name or not path:
            raise ConfigError(f"{place!r} cannot be read; expected NAME=PLACE, say shipped=runs/corpus/fast")
        found += [replace(run, model=name) for run in read_runs([path])]
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Make the corpus, prior and state that ship with foresight.")
    parser.add_argument("--runs", metavar="NAME=PLACE", nargs="+", required=True)
    parser.add_argument("--out", metavar="DIR", required=True)
    arguments = parser.parse_args()
    for path in ship(named(arguments.runs), arguments.out):
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
