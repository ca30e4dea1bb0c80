"""Files that are either whole or absent: written under a temporary name, synced, then renamed. And missing ones."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from .errors import ConfigError, ForesightError, did_you_mean


class DiskFullError(ForesightError, OSError):
    """No space is left for a file; what was there before is untouched."""


_ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet", ".safetensors", ".yaml")


def missing(source: str | Path) -> str | None:
    """What to say of a source that is not there, though it can only be local: None if it is, or may be on the Hub."""
    path = Path(source)
    if path.exists():
        return None
    if not (path.suffix in _ENDINGS or path.is_absolute() or str(source).startswith((".", "~")) or len(path.parts) > 2):
        return None
    neighbours = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
    return f"no file or folder {str(source)!r}{did_you_mean(path.name, neighbours)}"


@contextlib.contextmanager
def one_writer(folder: str | Path) -> Iterator[None]:
    """Keep other processes out of a folder as long as it is written to; it is made if it is missing.

    Raises:
        ConfigError: another process is at work there.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")  # released when the process ends, however it ends
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ConfigError(f"another process is at work in {folder}; wait for it, or name another folder") from error
    try:
        yield
    finally:
        lock.release()


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Let `write(temporary path)` produce a file, then replace `path` with it in one step.

    Raises:
        DiskFullError: the disk or quota is full. The temporary file is removed; an older `path` stays as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}.part")  # so that nobody can put a link there
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # safetensors makes files that nobody but their owner can read
        sync(temporary)
        os.replace(temporary, path)
        sync(path.parent)
    except Exception as error:  # safetensors reports a full disk as an error of its own
        with contextlib.suppress(OSError):
            temporary.unlink()
        full = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        if getattr(error, "errno", None) in full or "No space left" in str(error) or "File too large" in str(error):
            raise DiskFullError(
                f"no space left to write {path}; free some space and continue with --resume: earlier files are whole"
            ) from error
        raise


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON, whole or not at all. Keys keep their order; NaN is refused (ValueError)."""
    text = json.dumps(data, indent=1, allow_nan=False) + "\n"
    write_whole(path, lambda temporary: temporary.write_text(text))


def read_json(path: str | Path) -> Any:
    """What a JSON file says.

    Raises:
        OSError: it cannot be read; ValueError: it is no JSON, or nested deeper than can be parsed.
    """
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def sha256(path: Path) -> str:
    """Hex digest of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def files_sha256(folder: Path) -> str:
    """Hex digest of the files in a folder, by name and content; empty where there is no folder."""
    files = sorted(path for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else []
    listed = "".join(f"{path.relative_to(folder)}={sha256(path)};" for path in files)
    return hashlib.sha256(listed.encode()).hexdigest() if files else ""


def sync(path: Path) -> None:
    """Flush a file or folder to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
