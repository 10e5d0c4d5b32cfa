"""How a folder of pictures says what is a class, and what is to train or to test on."""

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from keras_densenet.data import picture_search
from keras_densenet.data.preparation import DataUnavailableError

SPLITS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
OTHER_SPLITS = {"training", "testing"}  # that others call so; and capital letters
LAYOUT = (
    "A folder must have train/<class>/*.jpg, and val/ and test/ like it if there are "
    "such; or it must have <class>/*.jpg, from which parts are held out."
)


def split_folders(root: Path) -> dict[str, Path]:
    """Return the folder of each split that has one; "train" always has one.

    Raises:
        DataUnavailableError: Two folders are of the same split.
    """
    if not (root / "train").is_dir():
        return {"train": root}
    there = {
        split: [root / name for name in names if (root / name).is_dir()]
        for split, names in SPLITS.items()
    }
    for folders in there.values():
        if len(folders) > 1:
            raise DataUnavailableError(
                f"{root} has two folders for the same pictures: "
                f"{', '.join(folder.name for folder in folders)}. Keep one of them. "
                f"{LAYOUT}"
            )
    return {split: folders[0] for split, folders in there.items() if folders}


def class_names(root: Path) -> Sequence[str]:
    """Return the names of the folders to train on, sorted.

    Args:
        root: The folder of all splits, or of all classes.

    Raises:
        DataUnavailableError: There is no such folder, there are no classes in it, a
            name is no text, or its folders seem to be something else than classes.
    """
    if not root.is_dir():
        raise DataUnavailableError(f"There is no folder {root}. {LAYOUT}")
    folders = split_folders(root)
    folder = folders["train"]
    names = tuple(picture_search.class_folders(folder))
    _refuse_undecodable(folder, names)
    _refuse_pictures_without_class(folders)
    _refuse_splits_as_classes(names, root)
    if not names:
        raise DataUnavailableError(f"{folder} has no folders in it. {LAYOUT}")
    _refuse_one_level_too_high(folder, names)
    return names


def _refuse_pictures_without_class(folders: Mapping[str, Path]) -> None:
    for folder in folders.values():
        if not picture_search.class_folders(folder) and picture_search.has_any(folder):
            raise DataUnavailableError(
                f"{folder} has pictures, but no folder a class: put each picture into "
                f"the folder of its class. {LAYOUT}"
            )


def _refuse_undecodable(folder: Path, names: Sequence[str]) -> None:
    """Refuse names that no log, page or graph could have in it."""
    wrong = [name for name in names if not _is_text(name)]
    if wrong:
        shown = ", ".join(str(os.fsencode(name))[1:] for name in wrong)
        raise DataUnavailableError(
            f"The folders of {folder} are the classes, and these names are no UTF-8: "
            f"{shown}. Rename them, as `convmv -f latin1 -t utf8` does."
        )


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def names_of_splits(names: Iterable[str]) -> list[str]:
    """Return those of some folders' names that people give to splits."""
    splits = OTHER_SPLITS.union(*SPLITS.values())
    return [name for name in names if name.lower() in splits]


def _refuse_splits_as_classes(names: Sequence[str], root: Path) -> None:
    """Refuse Train/ and valid/ without train/, which would be classes."""
    wrong = names_of_splits(names)
    if wrong and not (root / "train").is_dir():
        raise DataUnavailableError(
            f"{root} has no folder train/, and {', '.join(wrong)} would be classes. "
            f"Rename the folders to train, val and test. {LAYOUT}"
        )


def _refuse_one_level_too_high(folder: Path, names: Sequence[str]) -> None:
    """Refuse one folder of folders, which would be one class."""
    if len(names) != 1:
        return
    within = picture_search.class_folders(folder / names[0])
    alone = all(entry.is_dir() for entry in (folder / names[0]).iterdir())
    if alone and len(within) > 1:
        raise DataUnavailableError(
            f"{folder} has one folder, {names[0]}, which would be the only class. Its "
            f"folders seem to be the classes: give {folder / names[0]} instead. "
            f"{LAYOUT}"
        )
