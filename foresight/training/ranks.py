"""That all ranks begin the same run: equal settings, packages and data.

A rank that differs would train something else without a word, or wait for ever in a collective that the others skip.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ..common.errors import ConfigError
from ..common.plugins import part
from .checkpoint import digest
from .config import ForesightConfig
from .run import Run

_OWN = frozenset(
    "output_dir logging_dir run_name local_rank hub_token disable_tqdm dataset_num_proc dataloader_num_workers "
    "dataloader_prefetch_factor dataloader_pin_memory dataloader_persistent_workers report_to".split()
)
"""Settings that each rank may have for itself: its place, its folders, and what it does beside the training."""
_PACKAGES = ("foresight-sft", "torch", "transformers", "trl", "accelerate", "deepspeed", "datasets")
_SHOWN = 10


def refuse_unequal_settings(args: ForesightConfig) -> None:
    """Compare the settings and the packages of all ranks. Collective; nothing with one process.

    Paths of files that exist are compared by their last part, since hosts may keep them in different folders, and a
    DeepSpeed config by what it says.

    Raises:
        ConfigError: on every rank; names the first rank that differs from rank 0, and how.
    """
    if args.world_size > 1:
        settings = {name: _portable(value) for name, value in args.to_dict().items() if name not in _OWN}
        if args.deepspeed:
            settings["deepspeed"] = _portable(args.hf_deepspeed_config.config)
        refuse_unequal(settings | {f"version of {name}": version(name) for name in _PACKAGES}, args.ddp_timeout)


def refuse_unequal_run(run: Run, evaluation: Any) -> None:
    """Compare the base weights and the rows of all ranks. Collective; nothing with one process.

    Args:
        evaluation: the table that the run is evaluated on, several by name, or None.

    Raises:
        ConfigError: as `refuse_unequal_settings`.
    """
    if run.args.world_size > 1:
        named = evaluation if isinstance(evaluation, Mapping) else {"": evaluation}
        found = {f"digest of evaluation rows {name}".rstrip(): digest(rows) for name, rows in named.items()}
        found |= {
            f"digest of {what}": value for what, value in run.fixed.items() if what.endswith(("rows", "examples"))
        }
        found["digest of the base"] = run.bank.base.hash
        refuse_unequal(found, run.args.ddp_timeout)


def refuse_unequal(mine: Mapping[str, Any], timeout: float) -> None:
    """Compare values, by what they are called, of all ranks of a process group. Collective.

    Raises:
        ConfigError: as `refuse_unequal_settings`; RankError: a rank did not come within `timeout` seconds.
    """
    found = part("bank.zero.gather")(dict(mine), timeout)
    for rank, other in enumerate(found):
        differ = [name for name in sorted(found[0] | other) if found[0].get(name) != other.get(name)]
        if differ:
            shown = [f"{name} is {other.get(name)!r:.80}, not {found[0].get(name)!r:.80}" for name in differ[:_SHOWN]]
            more = f"; and {len(differ) - _SHOWN} more" if len(differ) > _SHOWN else ""
            raise ConfigError(
                f"rank {rank} was not started as rank 0 was: {'; '.join(shown)}{more}. All ranks stop; start them with "
                "the same recipe, packages and data"
            )


def _portable(value: Any) -> Any:
    """A setting without what only this host knows: paths that exist here are cut to their last part."""
    if isinstance(value, Mapping):
        return {str(key): _portable(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_portable(one) for one in value]
    if isinstance(value, (str, os.PathLike)):
        text = os.fspath(value)
        return Path(text).name if os.sep in text and os.path.exists(text) else text
    return value if isinstance(value, (int, float, bool, type(None))) else str(value)
