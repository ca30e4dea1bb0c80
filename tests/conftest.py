"""What every test needs: no hub, one thread, the measurements of eval/."""

import gc
import os
import sys
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
# Every core has a worker already; read when numpy and torch are imported, here and in the processes that tests start.
for _library in ("OMP", "OPENBLAS", "MKL"):
    os.environ[f"{_library}_NUM_THREADS"] = "1"

import pytest  # noqa: E402
import torch  # noqa: E402  (libraries read these settings when they are imported)

torch.set_num_threads(1)

_REPOSITORY = Path(__file__).parents[1]

# The measurements of eval/ are not installed. Last on the path: `foresight` stays the installed one.
sys.path.append(str(_REPOSITORY))


def pytest_collection_modifyitems(items):
    """Share the tests out: a file goes to one worker; so does all that starts process groups, which begins first."""
    for item in items:
        group = "multi_process" if item.get_closest_marker("multi_process") else item.nodeid.split("::")[0]
        item.add_marker(pytest.mark.xdist_group(group))
    items.sort(key=lambda item: item.get_closest_marker("multi_process") is None)


def pytest_collection_finish():
    """Whatever was imported stays: else it would be gone through at the end of every run that a test trains."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def real_data():
    """Gives the path of real data, which lies outside the project; a test is skipped where it is missing."""
    root = os.environ.get("FORESIGHT_TEST_DATA")

    def path_of(name: str) -> Path:
        if not root:
            pytest.skip(f"needs real data: set FORESIGHT_TEST_DATA to a folder that holds {name}")
        path = Path(root).resolve() / name
        if not path.exists():
            pytest.skip(f"FORESIGHT_TEST_DATA holds no {name}")
        return path

    return path_of


@pytest.fixture
def cli(capsys, monkeypatch):
    """Run the command; returns (exit code, stdout, stderr)."""
    from foresight.cli import main

    monkeypatch.delenv("FORESIGHT_DEBUG", raising=False)

    def run(*words):
        code = main([str(word) for word in words])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture
def refused(cli):
    """Run a command that has to fail, and return its one line of error."""

    def run(*words):
        code, _, err = cli(*words)
        lines = [line for line in err.splitlines() if line.startswith("foresight: error: ")]
        assert code == 2 and len(lines) == 1 and "Traceback" not in err, err
        assert err.rstrip().endswith(lines[0])
        return lines[0]

    return run
