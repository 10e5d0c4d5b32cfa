"""A file that is there whole, or not at all."""

import os
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write beside, and rename: somebody may read it at any moment."""
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
