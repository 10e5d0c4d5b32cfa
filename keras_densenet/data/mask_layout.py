"""The pictures and masks of a folder, and which of them are held out."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_densenet.data import picture_search
from keras_densenet.data.folder_layout import SPLITS
from keras_densenet.data.folder_parts import with_parts
from keras_densenet.data.hold_out import Borders
from keras_densenet.data.labeled_files import Found
from keras_densenet.data.picture_files import PictureFiles
from keras_densenet.data.preparation import DataUnavailableError
from keras_densenet.errors import few

ANNOTATIONS = "annot"  # CamVid's masks of train/ are in trainannot/
_ALIKE = "pictures"  # what all have the same share of: there are no classes of pictures


class MaskNames(NamedTuple):
    """How a folder names pictures and masks.

    Attributes:
        images: The folder of the pictures.
        masks: The folder of the masks.
        suffix: What a mask's name has after its picture's, before the ending.
    """

    images: str = "images"
    masks: str = "masks"
    suffix: str = ""

    @property
    def layout(self) -> str:
        """Say what a folder must have."""
        return (
            f"A folder must have {self.images}/ and {self.masks}/, or both in train/, "
            f"val/ and test/, or {self.images}/train/ and {self.masks}/train/, and so "
            "on; or train/ and trainannot/, as CamVid has. A mask has its picture's "
            f"name{f' and {self.suffix}' if self.suffix else ''}, with any ending."
        )


def find_masked_folder(
    root: str | os.PathLike,
    names: MaskNames,
    shares: Mapping[str, float],
    borders: Borders,
    group: str | None = None,
) -> Found:
    """Find all pictures and masks, and hold out what has no folder of its own.

    Args:
        root: The folder.
        names: Of pictures and masks.
        shares: Share of the training pictures to hold out for a split that has no
            folder of its own, 0 <= x < 1, by the name of the split: "val", "test".
        borders: What a run held out; empty for none.
        group: A pattern that finds what belongs together in a picture's path.

    Raises:
        DataUnavailableError: There is no such folder, or there are no pictures in one;
            a picture has no mask; or two splits with folders share a group.
    """
    root = Path(root).expanduser()
    left_out: Counter[str] = Counter()
    folders = _split_folders(root, names)
    files = {
        split: _paired(pictures, masks, names, left_out)
        for split, (pictures, masks) in folders.items()
    }
    picture_search.warn_of_left_out(left_out, stacklevel=6)
    alike = np.full(len(files["train"]), _ALIKE, object)
    of_pictures = {split: pictures for split, (pictures, _) in folders.items()}
    return with_parts(files, of_pictures, alike, shares, borders, group)


def _split_folders(root: Path, names: MaskNames) -> dict[str, tuple[Path, Path]]:
    """Return the folders of pictures and masks of each split; "train" has some."""
    if not root.is_dir():
        raise DataUnavailableError(f"There is no folder {root}. {names.layout}")
    found: dict[str, tuple[Path, Path]] = {}
    for split, spellings in SPLITS.items():
        for spelling in spellings:
            for pictures, masks in (
                (root / spelling / names.images, root / spelling / names.masks),
                (root / names.images / spelling, root / names.masks / spelling),
                (root / spelling, root / f"{spelling}{ANNOTATIONS}"),
            ):
                if pictures.is_dir() and masks.is_dir():
                    found.setdefault(split, (pictures, masks))
    if "train" in found:
        return found
    pictures, masks = root / names.images, root / names.masks
    if not (pictures.is_dir() and masks.is_dir()):
        raise DataUnavailableError(f"{root} has no pictures with masks. {names.layout}")
    return {"train": (pictures, masks)}


def _paired(
    pictures: Path, masks: Path, names: MaskNames, left_out: Counter[str]
) -> PictureFiles:
    """Return the pictures of a folder, each with its mask."""
    paths = picture_search.pictures_in(pictures, left_out)
    if not paths:
        raise DataUnavailableError(f"There are no pictures in {pictures}.")
    by_name = {
        Path(path).relative_to(masks).with_suffix("").as_posix(): path
        for path in picture_search.pictures_in(masks, left_out)
    }
    wanted = [
        Path(path).relative_to(pictures).with_suffix("").as_posix() + names.suffix
        for path in paths
    ]
    without = [name for name in wanted if name not in by_name]
    if without:
        raise DataUnavailableError(
            f"{len(without)} of {len(paths)} pictures in {pictures} have no mask in "
            f"{masks}: {few(without)}. Add the masks, take the pictures away, or say "
            "what a mask's name has besides, such as mask_suffix='_L'."
        )
    return PictureFiles(
        np.array(paths, object),
        np.zeros(len(paths), np.int64),
        masks=np.array([by_name[name] for name in wanted], object),
    )
