"""The pictures of a folder with one folder a class, and which of them are held out."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_densenet.data import picture_search
from keras_densenet.data.folder_layout import split_folders
from keras_densenet.data.folder_parts import with_parts
from keras_densenet.data.hold_out import Borders
from keras_densenet.data.labeled_files import Found, refuse_empty_classes
from keras_densenet.data.picture_files import PictureFiles
from keras_densenet.data.preparation import DataUnavailableError


def find_labeled_folder(
    root: str | os.PathLike,
    class_names: Sequence[str],
    shares: Mapping[str, float],
    borders: Borders,
    group: str | None = None,
) -> Found:
    """Find all files of a folder, and hold out what has no folder of its own.

    Args:
        root: The folder.
        class_names: Names of its classes; see `folder_layout.class_names`.
        shares: Share of the training pictures to hold out for a split that has no
            folder of its own, 0 <= x < 1, by the name of the split: "val", "test".
        borders: What a run held out; empty for none.
        group: A pattern that finds what belongs together in a file's path, in its
            parentheses; None where nothing does.

    Raises:
        DataUnavailableError: A split has a folder, and no pictures in it; or two splits
            with folders of their own share a group.
        ValueError: A class has no pictures to train on, or a path has no group.
    """
    root = Path(root).expanduser()
    folders = split_folders(root)
    left_out: Counter[str] = Counter()
    files = {
        split: picture_search.find(folder, class_names, left_out)
        for split, folder in folders.items()
    }
    picture_search.warn_of_left_out(left_out, stacklevel=6)
    refuse_empty_classes(files["train"], class_names, root)
    _refuse_empty_folders(files, folders)
    strata = np.array(class_names, object)[files["train"].labels]
    return with_parts(files, folders, strata, shares, borders, group)


def refuse_without(root: str | os.PathLike, split: str) -> None:
    """Refuse a folder that has no folder for a split.

    Raises:
        DataUnavailableError: It has none.
    """
    if split not in split_folders(Path(root).expanduser()):
        raise DataUnavailableError(
            f"{root} has no folders train/ and {split}/, each with one folder a class. "
            "Make them."
        )


def _refuse_empty_folders(
    files: Mapping[str, PictureFiles], folders: Mapping[str, Path]
) -> None:
    empty = [str(folders[split]) for split, found in files.items() if not len(found)]
    if empty:
        raise DataUnavailableError(
            f"There are no pictures in {', '.join(empty)}: put some there, one folder "
            "a class, or take it away, and a share is held out."
        )
