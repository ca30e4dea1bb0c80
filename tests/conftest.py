"""What every test needs: no hub, one thread."""

import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"

import pytest  # noqa: E402
import torch  # noqa: E402  (the hub reads its settings when it is imported)

torch.set_num_threads(1)

_REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """Real data that is not part of the project; tests that need it are skipped without."""
    return Path(os.environ.get("FORESIGHT_TEST_DATA", _REPOSITORY / ".." / "shared" / "data")).resolve()
