"""Pictures taken out of the training pictures, to validate and to test on."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_densenet.data.picture_files import PictureFiles


def hold_out(
    files: PictureFiles, shares: Mapping[str, float], root: Path
) -> dict[str, PictureFiles]:
    """Take the same share of each class out of the training pictures.

    In an order by a hash of their paths, validation pictures are the first of a class
    and test pictures the last: where there are more pictures later, none becomes one
    of the other split.

    Args:
        files: All pictures.
        shares: Share to hold out for each split, 0 <= x < 1: of "val", of "test".
        root: The folder that paths are hashed from, so that it may lie anywhere.

    Returns:
        The pictures that are left, as "train", and those of each of `shares`.
    """
    splits = np.full(len(files), "train", object)
    for label in np.unique(files.labels):
        (numbers,) = np.nonzero(files.labels == label)
        hashes = [_hash(str(path), root) for path in files.paths[numbers]]
        order = numbers[np.argsort(hashes)]
        spare = len(order) - 1  # one is to train on
        for split, share in shares.items():
            many = min(spare, max(1, round(share * len(order)))) if share else 0
            spare -= many
            places = range(many) if split == "val" else range(-many, 0)
            splits[[order[place] for place in places]] = split
    return {split: files.at(splits == split) for split in ("train", *shares)}


def _hash(path: str, root: Path) -> bytes:
    """Return a hash that is the same wherever the folder is."""
    inside = Path(path).relative_to(root).as_posix()
    return hashlib.sha256(os.fsencode(inside)).digest()
