"""What a model would see of rows: their tokens, and which of them are trained on, as TRL prepares them."""

from __future__ import annotations

import copy
import tempfile
from typing import Any

from datasets import Dataset
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerBase
from trl import SFTTrainer

from .config import ForesightConfig


def rendered(rows: Dataset, tokenizer: PreTrainedTokenizerBase, args: ForesightConfig) -> Dataset:
    """Prepare rows as a run with these settings would, without its model.

    Args:
        rows: as `ForesightTrainer` takes them.

    Returns:
        Columns input_ids and labels (-100 where nothing is trained), a row each: packing comes later. Rows of which
        nothing would be trained are left out, as in the run.
    """
    size = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}
    stand_in = LlamaForCausalLM(LlamaConfig(vocab_size=len(tokenizer), **size))
    settings: Any = copy.copy(args)
    settings.packing, settings.padding_free, settings.shuffle_dataset = False, False, False
    with tempfile.TemporaryDirectory() as folder:
        settings.output_dir = folder
        trainer = SFTTrainer(stand_in, settings, train_dataset=rows, processing_class=copy.deepcopy(tokenizer))
        return trainer.train_dataset
