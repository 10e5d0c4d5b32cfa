"""A file that is there whole, or not at all."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole_file(path: str | os.PathLike) -> Iterator[Path]:
    """Yield where to write what will then be at `path`.

    It is a file beside `path`, with the same ending. When the block ends without an
    error, the file is flushed to the disk and renamed, so that whoever reads `path`, at
    any moment and after a power cut, finds the old file or the new one, and never a
    part. After an error the old file stays, and nothing else is left.

    Args:
        path: Of the file. Its folder is made if it is not there.

    Raises:
        OSError: It cannot be written, as where the disk is full.

    Examples:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "table.csv"
        >>> with whole_file(path) as beside:
        ...     _ = beside.write_text("a,b")
        ...     path.exists()
        False
        >>> path.read_text()
        'a,b'
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # The process's number, since several processes may write the same file.
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        yield beside
        flush(beside)
        beside.replace(path)
        flush(path.parent)  # which has the name
    finally:
        beside.unlink(missing_ok=True)


def flush(path: Path) -> None:
    """Bring a file, or the names in a folder, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
