"""Loading models and tokenizers: safetensors and stock modules only, never remote code."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

from ..common.errors import ConfigError
from .model_config import ModelConfig

UNREADABLE = (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError, StrictDataclassError)
"""What transformers raises for files that are missing, damaged, or not what they should be."""


def load_meta_model(settings: ModelConfig):
    """Build the model without weights, on the meta device: shapes, dtypes and module names. Reads config.json only.

    Raises:
        ConfigError: no such model, or a model type that transformers does not know.
    """
    with _explained(settings, "config"), torch.device("meta"):
        return AutoModelForCausalLM.from_config(_config(settings), trust_remote_code=False)


def load_model(settings: ModelConfig, seed: int):
    """Load the model with its weights, or build it with seeded random ones if `from_config` is set.

    Raises:
        ConfigError: no such model, no safetensors weights, or weights that leave tensors of the model unset.
    """
    with _explained(settings, "weights"):
        if settings.from_config:
            set_seed(seed)
            return AutoModelForCausalLM.from_config(_config(settings), trust_remote_code=False)
        model, report = AutoModelForCausalLM.from_pretrained(
            settings.source,
            revision=settings.model_revision,
            dtype=settings.dtype,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    if report["missing_keys"]:
        raise ConfigError(
            f"model {settings.source}: its weights lack {len(report['missing_keys'])} tensors of "
            f"{type(model).__name__} (first: {sorted(report['missing_keys'])[0]}), which would start random; "
            "expected a complete causal language model"
        )
    if Path(settings.source).is_dir():  # absolute, so that what a run records is valid from any working directory
        model.config._name_or_path = str(Path(settings.source).resolve())
    return model


def load_tokenizer(settings: ModelConfig):
    """Load the model's tokenizer, or the one that `tokenizer` names.

    Raises:
        ConfigError: there is none, or it has more tokens than the model.
    """
    source = settings.tokenizer or settings.source
    revision = None if settings.tokenizer else settings.model_revision
    try:
        tokenizer = AutoTokenizer.from_pretrained(source, revision=revision, trust_remote_code=False)
    except UNREADABLE as error:
        raise ConfigError(
            f"tokenizer {source}: cannot be loaded ({_first_line(error)}); set `tokenizer` to a folder or Hub name"
        ) from error
    with _explained(settings, "config"):
        size = _config(settings).get_text_config().vocab_size
    if len(tokenizer) > size:
        raise ConfigError(
            f"tokenizer {source} has {len(tokenizer)} tokens, but model {settings.source} embeds {size}; "
            "they do not belong together"
        )
    return tokenizer


def _config(settings: ModelConfig) -> Any:
    config = AutoConfig.from_pretrained(settings.source, revision=settings.model_revision, trust_remote_code=False)
    if settings.dtype != "auto":
        config.dtype = getattr(torch, settings.dtype)
    return config


@contextmanager
def _explained(settings: ModelConfig, what: str):
    """Turn what transformers raises for a missing or unsupported model into one line with a remedy."""
    try:
        yield
    except UNREADABLE as error:
        folder = Path(settings.source)
        if not folder.is_dir():
            remedy = "expected a local folder with a config.json, or the name of a model on the Hub (and a connection)"
        elif not (folder / "config.json").is_file():
            remedy = "the folder has no config.json; expected a Hugging Face model folder"
        elif what == "weights" and not list(folder.glob("*.safetensors")):
            remedy = "the folder has no *.safetensors weights; set `from_config: true` to start from random ones"
        else:
            remedy = "expected the folder of a stock Hugging Face causal language model; remote code is never run"
        raise ConfigError(f"model {settings.source}: {remedy} ({_first_line(error)})") from error


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0].strip() if str(error).strip() else type(error).__name__
