"""A folder that one process at a time writes to."""

import errno
import fcntl
import os
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from keras_densenet.errors import MisconfigurationError

# File systems that know no locks, as some that are shared by several machines.
_NO_LOCKS = (errno.EBADF, errno.EINVAL, errno.ENOLCK, errno.EOPNOTSUPP)
ANEW = (
    "begin a run of its own: without ckpt_path, and with another dirpath of "
    "ModelCheckpoint"
)


@contextmanager
def held_alone(folders: Iterable[Path], instead: str = ANEW) -> Iterator[None]:
    """Hold folders for this process, until the block ends or the process does.

    The system lets go of them when the process ends, however that happens, and nothing
    is left in the folders. Where the file system has no locks, nothing is held.

    Args:
        folders: They are made if they are not there.
        instead: What else to do than to wait for another process.

    Raises:
        MisconfigurationError: Another process writes to one of them.
    """
    with ExitStack() as stack:
        for folder in sorted({folder.resolve() for folder in folders}):
            stack.enter_context(_held(folder, instead))
        yield


@contextmanager
def _held(folder: Path, instead: str) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(handle)
        raise MisconfigurationError(
            f"Another training writes to {folder} at this moment, and two would write "
            f"over each other's files. Wait for its end, or {instead}."
        ) from error
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            os.close(handle)
            raise
    try:
        yield
    finally:
        os.close(handle)
