"""What tells one set of pictures from another, in a few characters."""

import hashlib
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_densenet.data.picture_files import PictureFiles
from keras_densenet.tensor import Tensor

LOOKED_INTO = 64  # pictures of a split whose content counts; of all, labels and names


def of_arrays(images: Tensor, labels: Tensor) -> dict[str, Any]:
    """Return the number of pictures in memory, and a hash of what they are.

    Args:
        images: `(N, H, W, channels)`.
        labels: `(N, ...)`.
    """
    some = tf.gather(images, _places(len(labels))).numpy()
    return _described(len(labels), [np.asarray(labels).tobytes(), some.tobytes()])


def of_files(files: PictureFiles, root: str | os.PathLike) -> dict[str, Any]:
    """Return the number of picture files, and a hash that is the same where they move.

    Args:
        files: In the order in which they are numbered.
        root: The folder that their names are taken from.
    """
    parts = [files.labels.tobytes()]
    for paths in (files.paths, files.masks):
        if paths is None:
            continue
        names = (os.fsencode(path.removeprefix(f"{root}{os.sep}")) for path in paths)
        some = (Path(paths[place]).read_bytes() for place in _places(len(files)))
        parts += [b"\0".join(names), *some]
    return _described(len(files), parts)


def _places(pictures: int) -> np.ndarray:
    many = min(pictures, LOOKED_INTO)
    return np.linspace(0, pictures - 1, many).astype(np.int64) if many else np.arange(0)


def _described(pictures: int, parts: Iterable[bytes]) -> dict[str, Any]:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(hashlib.sha256(part).digest())
    return {"pictures": pictures, "sha256": digest.hexdigest()[:16]}
