"""Files of several arrays, laid out as MedMNIST's (Yang et al. 2023)."""

import os
import zipfile
import zlib
from pathlib import Path

import numpy as np

from keras_densenet.data.raw_arrays import STEPS

SPLITS = {"train": "train", "val": "validation", "test": "test"}  # and our names
COLORS = (1, 3, 4)  # numbers of a pixel: gray, RGB, RGBA


def pairs_in(
    path: str | os.PathLike, rank: int | None = None
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return images and labels of each split: "train", "validation", "test".

    Images without an axis for channels get one.

    Args:
        path: The `.npz` file.
        rank: 1 where they are signals, 2 pictures, 3 volumes; None where their shape
            says it.

    Raises:
        ValueError: It is no such file, is damaged, or has no such arrays.
        FileNotFoundError: There is no such file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"There is no file {path}.")
    arrays = _read(path)
    there = [
        split
        for split in SPLITS
        if {f"{split}_images", f"{split}_labels"} <= set(arrays)
        and (split == "train" or len(arrays[f"{split}_labels"]))
    ]
    if "train" not in there:
        raise ValueError(
            f"{path} needs the arrays train_images and train_labels, as MedMNIST's "
            f"files have them, and has {', '.join(sorted(arrays)) or 'no named ones'}. "
            'Write it with np.savez_compressed("mine.npz", train_images=..., '
            "train_labels=..., val_images=..., ...)."
        )
    return {
        SPLITS[split]: (
            _with_channels(arrays[f"{split}_images"], rank),
            arrays[f"{split}_labels"],
        )
        for split in there
    }


def _read(path: Path) -> dict[str, np.ndarray]:
    """Return the arrays of a file by their names; none of a single array."""
    try:
        with path.open("rb") as file:
            read = np.load(file, allow_pickle=False)  # a pickle could run code
            if not isinstance(read, np.lib.npyio.NpzFile):
                return {}
            return {name: read[name] for name in read.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError) as error:
        raise ValueError(
            f"{path} is damaged, or no file of NumPy's arrays ({error}). Get it again."
        ) from error


def _with_channels(images: np.ndarray, rank: int | None) -> np.ndarray:
    """Return images with an axis for their channels: `(N, ..., channels)`."""
    if rank is None and images.ndim == 3 and images.shape[1] >= STEPS * images.shape[2]:
        raise ValueError(
            f"images of the shape {images.shape} may be signals (N, T, channels), or "
            "gray pictures (N, H, W): say rank=1, or rank=2."
        )
    if rank is None:
        is_color = images.ndim == 4 and images.shape[-1] in COLORS
        rank = 2 if images.ndim == 3 or is_color else 3
    return images[..., np.newaxis] if images.ndim == rank + 1 else images
