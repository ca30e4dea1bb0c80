"""Make what ships of recorded runs: the corpus, the prior, and the state of the default forecaster.

    python -m eval.shipped_corpus --runs shipped=runs/corpus/fast shipped=runs/corpus/slow second=… --out DIR

Each place is given as NAME=PLACE, where NAME is what its model is called in the corpus. recipes/forecasters/corpus.yaml
records the runs. The state is arrays and JSON in a safetensors file; none of the files holds weights.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from foresight.common.errors import ConfigError
from foresight.forecasters import DEFAULT, SHIPPED_STATE, make_forecaster
from foresight.policies.prior import SHIPPED as PRIOR
from foresight.policies.prior import LayerKindPrior
from foresight.studies.bench.corpus import SHIPPED, Run, read_runs, write_corpus


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
    """The runs of places NAME=PLACE, with NAME for their model. Raises ConfigError for a place without a name."""
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
