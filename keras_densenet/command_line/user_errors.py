"""How a command ends: an error of the user's in one line, Ctrl-C with how to go on."""

import re
import shlex
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from keras_densenet.errors import BROKEN_PICTURE

NOT_FINISHED = (130, 143)  # exit codes after Ctrl-C and SIGTERM
# Within TensorFlow's errors:
DAMAGED_FILE = re.compile(
    "^.*(No such file|corrupted record|truncated record|contained only).*$", re.M
)


@contextmanager
def one_line_errors(resume: Sequence[str] | None) -> Iterator[None]:
    """Print an error of the user's as one line, and after Ctrl-C how to go on.

    Args:
        resume: What is added to the command line to go on; None where it cannot go on.

    Raises:
        SystemExit: Instead of an error of the user's, and of `KeyboardInterrupt`.
    """
    try:
        yield
    except SystemExit as end:
        if end.code in NOT_FINISHED and resume is not None:
            print("To go on:", shlex.join(_resuming(sys.orig_argv[1:], resume)))
        raise
    except KeyboardInterrupt:  # before or after the training
        sys.exit(NOT_FINISHED[0])
    except Exception as error:
        message = _for_the_user(error)
        if message is None:
            raise
        sys.exit(f"error: {message}")


def _resuming(arguments: Sequence[str], resume: Sequence[str]) -> list[str]:
    """Return the command line that goes on, instead of one that begins elsewhere.

    >>> _resuming(["-m", "x", "--ckpt_path", "a.keras"], ["--ckpt_path", "last"])
    ['python', '-m', 'x', '--ckpt_path', 'last']
    """
    kept: list[str] = []
    rest = list(arguments)
    while rest:
        name = rest.pop(0)
        if name.partition("=")[0] not in ("--resume", "--ckpt_path"):
            kept.append(name)
        elif "=" not in name and rest and not rest[0].startswith("--"):
            rest.pop(0)  # its value
    return ["python", *kept, *resume]


def _for_the_user(error: Exception) -> str | None:
    """Return what to tell of an error of the user's; None if it is none."""
    import tensorflow as tf

    from keras_densenet.data import DataUnavailableError
    from keras_densenet.data.preparation import DAMAGED
    from keras_densenet.errors import NotANumberError, WorkerLostError

    if isinstance(error, tf.errors.OpError):
        broken = BROKEN_PICTURE.search(error.message)
        is_damage = broken or isinstance(error, DAMAGED)
        return _line_of(error.message, broken) if is_damage else None
    ours = DataUnavailableError, NotANumberError, WorkerLostError
    if isinstance(error, (ValueError, OSError, *ours)):
        return str(error)
    return None


def _line_of(message: str, broken: re.Match | None) -> str:
    """Return the line of TensorFlow's error that is for people."""
    if broken:
        return broken[1]
    said = DAMAGED_FILE.search(message)
    return (
        f"{said[0] if said else message}. A file of the data set is damaged, or gone "
        "since the training began."
    )
