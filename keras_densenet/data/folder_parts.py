"""The parts of a folder of pictures: those with folders of their own, and others."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from keras_densenet.data.groups import (
    group_pattern,
    groups_in,
    refuse_groups_in_two_splits,
)
from keras_densenet.data.hold_out import Borders, hold_out, hold_out_groups
from keras_densenet.data.labeled_files import Found
from keras_densenet.data.picture_files import PictureFiles


def with_parts(
    files: Mapping[str, PictureFiles],
    folders: Mapping[str, Path],
    strata: np.ndarray,
    shares: Mapping[str, float],
    borders: Borders,
    group: str | None = None,
) -> Found:
    """Hold out of the training pictures what has no folder of its own.

    Args:
        files: Those of each split that has a folder, "train" among them.
        folders: These folders.
        strata: What each training picture is of, of which all parts have the same
            share, such as the name of its class: text `(N,)`.
        shares: Share of the training pictures to hold out for a split that has no
            folder of its own, 0 <= x < 1, by the name of the split: "val", "test".
        borders: What a run held out; empty for none.
        group: A pattern that finds what belongs together in a file's path, in its
            parentheses; None where nothing does.

    Raises:
        DataUnavailableError: Two splits with folders of their own share a group.
        ValueError: A path has no group.
    """
    names = {
        split: np.array([_inside(path, folders[split]) for path in found.paths], object)
        for split, found in files.items()
    }
    missing = {split: share for split, share in shares.items() if split not in files}
    if group is None:
        held_out = hold_out(names["train"], strata, missing, borders)
    else:
        pattern = group_pattern(group)
        units = {split: groups_in(paths, pattern) for split, paths in names.items()}
        refuse_groups_in_two_splits(units)
        has_label = strata[:, np.newaxis] == np.unique(strata)
        held_out = hold_out_groups(units["train"], has_label, missing, borders)
        files = {
            name: PictureFiles(one.paths, one.labels, units[name], one.masks)
            for name, one in files.items()
        }
    train = files["train"]
    parts = {split: train.at(held_out.splits == split) for split in ("train", *missing)}
    return Found({**files, **parts}, held_out.borders)


def _inside(path: str, folder: Path) -> str:
    """Return a path that is the same wherever the folder is."""
    return Path(path).relative_to(folder).as_posix()
