"""What every test needs: no hub, one thread."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import torch  # noqa: E402  (the hub reads its settings when it is imported)

torch.set_num_threads(1)
