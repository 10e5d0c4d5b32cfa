"""Pictures taken out of the training pictures, to validate and to test on."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_densenet.data.picture_files import PictureFiles

DIGITS = 16  # of a hash, in hexadecimal, that a border keeps
Borders = Mapping[str, Mapping[str, str]]


class HeldOut(NamedTuple):
    """Pictures in parts, and where one part ends.

    Attributes:
        files: The pictures that are left, as "train", and those of "val" and "test".
        borders: For each part held out, for each class, the hash of the picture that is
            nearest to those to train on; "" where the class has none.
    """

    files: dict[str, PictureFiles]
    borders: dict[str, dict[str, str]]


def hold_out(
    files: PictureFiles,
    shares: Mapping[str, float],
    root: Path,
    class_names: Sequence[str],
    kept: Borders | None = None,
) -> HeldOut:
    """Take the same share of each class out of the training pictures.

    In an order by a hash of their paths, validation pictures are the first of a class
    and test pictures the last: where there are more pictures later, none becomes one
    of the other split. Where the borders of a run are given, they decide instead of the
    shares: then no picture goes from one part to another, whatever is added or removed.

    Args:
        files: All pictures.
        shares: Share to hold out for each split, 0 <= x < 1: of "val", of "test".
        root: The folder that paths are hashed from, so that it may lie anywhere.
        class_names: Names of the classes.
        kept: Borders of before; None for none.
    """
    kept = kept or {}
    splits = np.full(len(files), "train", object)
    borders: dict[str, dict[str, str]] = {split: {} for split in shares}
    for label in np.unique(files.labels):
        name = class_names[label]
        (numbers,) = np.nonzero(files.labels == label)
        hashes = [_hash(str(path), root) for path in files.paths[numbers]]
        order = np.argsort(hashes)
        ordered = [hashes[place][:DIGITS] for place in order]
        spare = len(order) - 1  # one is to train on
        for split, share in shares.items():
            border = kept.get(split, {}).get(name)
            if border is None:
                wanted = max(1, round(share * len(order))) if share else 0
                many = min(max(spare, 0), wanted)
                nearest = many - 1 if split == "val" else -many
                border = ordered[nearest] if many else ""
            inside = [_is_inside(split, h, border) for h in ordered]
            spare -= sum(inside)
            splits[numbers[order[inside]]] = split
            borders[split][name] = border
    parts = {split: files.at(splits == split) for split in ("train", *shares)}
    return HeldOut(parts, borders)


def _is_inside(split: str, hash_: str, border: str) -> bool:
    """Return whether a picture is on the side of the border that is held out."""
    if not border:
        return False
    return hash_ <= border if split == "val" else hash_ >= border


def _hash(path: str, root: Path) -> str:
    """Return a hash that is the same wherever the folder is."""
    inside = Path(path).relative_to(root).as_posix()
    return hashlib.sha256(os.fsencode(inside)).hexdigest()
