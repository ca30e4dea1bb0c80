"""How far a model's weights have moved in an adapter, in another checkpoint and in a run; and what is no source."""

import json

import pytest
import torch
from peft import LoraConfig, get_peft_model

from foresight.bank.movement import movement
from foresight.common.errors import CheckpointError
from foresight.model.weight_table import weight_table
from support.tiny import tiny


def moved(source, model):
    found = movement(source, model)
    return {target.module: found(target) for target in weight_table(model).targets}


@pytest.mark.parametrize("family", ["llama", "gpt2"])
@pytest.mark.parametrize("rslora", [False, True])
def test_an_adapter_has_moved_what_merging_it_changes(tmp_path, family, rslora):
    model = tiny(family)
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    settings = LoraConfig(
        r=2, lora_alpha=6, use_rslora=rslora, target_modules=["q_proj"] if family == "llama" else ["c_fc"]
    )
    adapted = get_peft_model(model, settings)
    for name, weight in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    adapted.save_pretrained(tmp_path)
    merged = adapted.merge_and_unload().state_dict()
    touched = 0
    for module, distance in moved(tmp_path, tiny(family)).items():
        change = (merged[f"{module}.weight"] - before[f"{module}.weight"]).abs()
        if not distance.any():
            assert not change.any()
        else:
            assert torch.allclose(distance, change, atol=1e-5)
            touched += 1
    assert touched == 2


def test_another_checkpoint_has_moved_by_the_difference(tmp_path):
    model, other = tiny(), tiny(seed=1)
    other.save_pretrained(tmp_path)
    name = "model.layers.1.mlp.up_proj"
    distance = moved(tmp_path, model)[name]
    assert torch.equal(distance, (other.get_submodule(name).weight - model.get_submodule(name).weight).abs())


def test_what_is_no_source_or_of_another_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match="no source of movement: expected the output folder of a finished run"):
        movement(tmp_path, tiny())
    tiny("gpt2").save_pretrained(tmp_path / "other")
    with pytest.raises(CheckpointError, match="has no tensor"):
        moved(tmp_path / "other", tiny())
    wide = tiny(intermediate_size=64)
    wide.save_pretrained(tmp_path / "wide")
    with pytest.raises(CheckpointError, match="has shape"):
        moved(tmp_path / "wide", tiny())
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "adapter_config.json").write_text(json.dumps({"r": 2}))
    with pytest.raises(CheckpointError, match="not that of a LoRA adapter"):
        movement(tmp_path / "broken", tiny())
