"""`foresight maps`: how much each row and column took part in other runs of a model, as small files for later runs."""

from __future__ import annotations

from pathlib import Path

from ..common.console import console, progress_bar
from ..common.errors import ConfigError
from ..forecasters.single_weights.margins import write_map
from ..model.loading import load_model
from ..model.model_config import ModelConfig
from ..model.weight_table import weight_table
from ..policies.single_weights.sources import map_of


def make(sources: list[str], model: str | None, out: str) -> None:
    """Write a map of each source into the folder `out`, under the source's own name.

    Raises:
        ConfigError: two sources of one name, or a map of that name is there already.
    """
    places = [Path(out) / f"{Path(source).absolute().name}.safetensors" for source in sources]
    for source, place in zip(sources, places, strict=True):
        if place.exists() or places.count(place) > 1:
            what = f"{place}, the map of {source},"
            raise ConfigError(f"{what} would be written over; rename one, or choose another --out")
    settings = ModelConfig(model=model)
    base = load_model(settings, 0)
    table = weight_table(base)
    with progress_bar(console()) as progress:
        for source, place in progress.track(list(zip(sources, places, strict=True)), description="maps"):
            write_map(place, map_of(source, base, table), {"model": settings.source, "source": source})
            progress.console.print(f"{place}: {place.stat().st_size / 1024:,.0f} KiB")
