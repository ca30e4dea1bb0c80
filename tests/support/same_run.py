"""Two runs that ended alike."""

import json

from safetensors.torch import load_file


def same_run(one, other, tolerance=0.0):
    masks = [json.loads((folder / "schedule.json").read_text())["entries"] for folder in (one, other)]
    assert masks[0] == masks[1] and len(masks[0]) > 2
    same_delta(one / "delta", other / "delta", tolerance)


def same_delta(one, other, tolerance):
    a, b = (load_file(folder / "delta.safetensors") for folder in (one, other))
    assert a.keys() == b.keys() and max((a[k] - b[k]).abs().max() for k in a) <= tolerance
