"""Pictures taken out of the training pictures, to validate and to test on."""

import hashlib
import os
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

DIGITS = 16  # of a hash, in hexadecimal, that a border keeps
Borders = Mapping[str, Mapping[str, str]]


class HeldOut(NamedTuple):
    """Which pictures are held out, and where each part ends.

    Attributes:
        splits: "train", or the part that a picture is held out for, `(N,)`.
        borders: For each part held out, for each stratum, the hash of the unit that is
            nearest to those to train on; "" where the stratum has none. Of groups what
            `hold_out_groups` says.
    """

    splits: np.ndarray
    borders: dict[str, dict[str, str]]


def hold_out(
    units: np.ndarray,
    strata: np.ndarray,
    shares: Mapping[str, float],
    kept: Borders | None = None,
) -> HeldOut:
    """Take the same share of each stratum out of the training pictures.

    In an order by a hash of their names, units to validate on are the first of a
    stratum and those to test on the last: where there are more later, none goes from
    one to the other. Where the borders of a run are given, they decide instead of the
    shares: then no unit goes from one part to another, whatever is added or removed.

    Args:
        units: What stays together, by name, `(N,)`: a picture by its path, or all
            pictures of a patient.
        strata: Of what each part has its share, `(N,)`: a class, or a finding. The
            pictures of a unit have the same; where that may change by what is added or
            removed, take `hold_out_groups`.
        shares: Share to hold out for each part, 0 <= x < 1: of "val", of "test".
        kept: Borders of before; None for none.
    """
    kept = kept or {}
    splits = np.full(len(units), "train", object)
    borders: dict[str, dict[str, str]] = {split: {} for split in shares}
    for stratum in np.unique(strata):
        (numbers,) = np.nonzero(strata == stratum)
        names, own, sizes = np.unique(
            units[numbers].astype(str), return_inverse=True, return_counts=True
        )
        hashes = np.array([hash_of(name) for name in names])
        order = np.argsort(hashes)
        ordered = [hash_[:DIGITS] for hash_ in hashes[order]]
        spare = len(order) - 1  # one is to train on
        for split, share in shares.items():
            border = kept.get(split, {}).get(stratum)
            if border is None:
                from_here = sizes[order] if split == "val" else sizes[order][::-1]
                many = min(max(spare, 0), _nearest(share * len(numbers), from_here))
                border = ordered[many - 1 if split == "val" else -many] if many else ""
            inside = np.array([_is_inside(split, hash_, border) for hash_ in ordered])
            spare -= inside.sum()
            held_out = np.isin(own, order[inside])
            splits[numbers[held_out]] = split
            borders[split][str(stratum)] = border
    return HeldOut(splits, borders)


def _nearest(pictures: float, sizes: np.ndarray) -> int:
    """Return how many of the first units have about so many pictures, 1 or more.

    >>> _nearest(2.4, np.array([1, 1, 1, 1])), _nearest(3, np.array([2, 5, 1]))
    (2, 1)
    """
    if not pictures:
        return 0
    distances = np.abs(np.cumsum(sizes) - round(pictures))
    return int(np.argmin(distances)) + 1


def _is_inside(split: str, hash_: str, border: str) -> bool:
    """Return whether a unit is on the side of the border that is held out."""
    if not border:
        return False
    return hash_ <= border if split == "val" else hash_ >= border


def hash_of(name: str) -> str:
    """Return a hash that is the same on every machine."""
    return hashlib.sha256(os.fsencode(name)).hexdigest()


def hold_out_groups(
    units: np.ndarray,
    has_label: np.ndarray,
    shares: Mapping[str, float],
    kept: Borders | None = None,
) -> HeldOut:
    """Hold out a share of each label, where what a unit is chosen by may change later.

    A patient may come back with a rarer finding, and what is rarest depends on all
    pictures. So the borders that a run keeps are those of all strata together: up to
    "border" all units are held out, and "beyond" has the hashes of the others.

    Args:
        units: What stays together, by name, `(N,)`.
        has_label: Whether each picture has each label, bool `(N, labels)`.
        shares: Share to hold out for each part, 0 <= x < 1: of "val", of "test".
        kept: Borders of before, which decide instead of the shares; None for none.
    """
    before = {split: dict((kept or {}).get(split, {})) for split in shares}
    borders = {split: ends for split, ends in before.items() if "beyond" in ends}
    names, of_picture = np.unique(units.astype(str), return_inverse=True)
    hashes = np.array([hash_of(name)[:DIGITS] for name in names])
    splits = np.full(len(names), "train", object)
    for split, ends in borders.items():
        beyond = set(ends["beyond"].split())
        inside = [h in beyond or _is_inside(split, h, ends["border"]) for h in hashes]
        splits[np.array(inside, bool)] = split
    splits = splits[of_picture]
    missing = {split: share for split, share in shares.items() if split not in borders}
    rest = splits == "train"
    if missing and rest.any():
        strata = strata_of_groups(units[rest], has_label[rest])
        splits[rest] = hold_out(units[rest], strata, missing).splits
    of_unit = np.full(len(names), "train", object)
    of_unit[of_picture] = splits
    for split in missing:
        borders[split] = _ends(split, hashes, of_unit == split)
    return HeldOut(splits, borders)


def _ends(split: str, hashes: np.ndarray, inside: np.ndarray) -> dict[str, str]:
    """Return up to where all units are held out, and the hashes of those beyond."""
    order = np.argsort(hashes)
    order = order if split == "val" else order[::-1]
    hashes, inside = hashes[order], inside[order]
    many = int(np.argmin(np.append(inside, False)))
    return {
        "border": str(hashes[many - 1]) if many else "",
        "beyond": " ".join(hashes[many:][inside[many:]]),
    }


def strata_of_groups(groups: np.ndarray, has_label: np.ndarray) -> np.ndarray:
    """Return what each group is chosen by: the rarest label among its pictures.

    Args:
        groups: Name of the group of each picture, `(N,)`.
        has_label: Whether each picture has each label, bool `(N, labels)`.

    Returns:
        The number of the label as text, "" where a group has none, `(N,)`.

    >>> groups = np.array(["ann", "ann", "bob"])
    >>> strata_of_groups(groups, np.array([[True, False], [True, True], [True, False]]))
    array(['1', '1', '0'], dtype='<U21')
    """
    _, of_picture = np.unique(groups.astype(str), return_inverse=True)
    found = np.zeros((of_picture.max() + 1, has_label.shape[1]), bool)
    np.logical_or.at(found, of_picture, has_label)
    rarest_first = np.argsort(has_label.sum(0), kind="stable")
    which = rarest_first[np.argmax(found[:, rarest_first], axis=1)].astype(str)
    return np.where(found.any(1), which, "")[of_picture]
