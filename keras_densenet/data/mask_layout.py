"""The pictures and masks of a folder, and which of them are held out."""

import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from keras_densenet.data import picture_search
from keras_densenet.data.folder_layout import SPLITS, names_of_splits
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
        image_suffix: What a picture's name ends with that its mask's has not.
        mask_suffix: What a mask's name ends with that its picture's has not.
    """

    images: str = "images"
    masks: str = "masks"
    image_suffix: str = ""
    mask_suffix: str = ""

    @property
    def layout(self) -> str:
        """Say what a folder must have."""
        return (
            f"A folder must have {self.images}/ and {self.masks}/, or both in train/, "
            f"val/ and test/, or {self.images}/train/ and {self.masks}/train/, and so "
            "on; or train/ and trainannot/, as CamVid has. A mask has its picture's "
            "name, with any ending; image_suffix and mask_suffix say what each has "
            "besides."
        )

    def mask_of(self, picture: str) -> str:
        """Return the name of a picture's mask, both without their endings."""
        return picture.removesuffix(self.image_suffix) + self.mask_suffix


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
    """Return the folders of pictures and masks of each split; "train" has some.

    Raises:
        DataUnavailableError: There are none; or two of a split, or one without masks;
            or splits that are not used, whose pictures would be trained on.
    """
    if not root.is_dir():
        raise DataUnavailableError(f"There is no folder {root}. {names.layout}")
    found = {split: _folders_of(root, names, split) for split in SPLITS}
    found = {split: folders for split, folders in found.items() if folders}
    for split, folders in found.items():
        if len(folders) > 1:
            raise DataUnavailableError(
                f"{root} has several folders of {split} pictures: "
                f"{', '.join(str(pictures) for pictures, _ in folders)}. Keep one."
            )
        pictures, masks = folders[0]
        if not masks.is_dir():
            raise DataUnavailableError(
                f"{pictures} has no masks in {masks}: add them, or take the pictures "
                "away; kd.data.Pictures predicts what has none."
            )
    if "train" in found:
        return {split: folders[0] for split, folders in found.items()}
    pictures, masks = root / names.images, root / names.masks
    if found or not (pictures.is_dir() and masks.is_dir()):
        raise DataUnavailableError(
            f"{root} has no pictures with masks to train on. {names.layout}"
        )
    _refuse_unused_splits(pictures, names)
    return {"train": (pictures, masks)}


def _folders_of(root: Path, names: MaskNames, split: str) -> list[tuple[Path, Path]]:
    """Return where pictures of a split are, and where their masks should be."""
    found = []
    for name in SPLITS[split]:
        inside = root / name / names.images, root / name / names.masks
        beside = root / names.images / name, root / names.masks / name
        annotated = root / name, root / f"{name}{ANNOTATIONS}"
        found += [pair for pair in (inside, beside) if pair[0].is_dir()]
        found += [annotated] * all(folder.is_dir() for folder in annotated)
    return found


def _refuse_unused_splits(pictures: Path, names: MaskNames) -> None:
    wrong = names_of_splits(picture_search.class_folders(pictures))
    if wrong:
        raise DataUnavailableError(
            f"{pictures} has folders {', '.join(wrong)}, all of whose pictures would "
            f"be trained on. Rename them to train, val and test. {names.layout}"
        )


def _paired(
    pictures: Path, masks: Path, names: MaskNames, left_out: Counter[str]
) -> PictureFiles:
    """Return the pictures of a folder, each with its mask.

    Raises:
        DataUnavailableError: There are none, or one has no mask, or several, or two
            have the same.
    """
    paths = picture_search.pictures_in(pictures, left_out)
    if not paths:
        raise DataUnavailableError(f"There are no pictures in {pictures}.")
    by_name: dict[str, list[str]] = {}
    for path in picture_search.pictures_in(masks, left_out):
        by_name.setdefault(_named(path, masks), []).append(path)
    wanted = [names.mask_of(_named(path, pictures)) for path in paths]
    without = [name for name in wanted if name not in by_name]
    if without:
        raise DataUnavailableError(
            f"{len(without)} of {len(paths)} pictures in {pictures} have no mask in "
            f"{masks}: {few(without)}. Add the masks, take the pictures away, or say "
            "what the names have besides, such as mask_suffix='_L'."
        )
    twice = [name for name, many in Counter(wanted).items() if many > 1]
    twice += [name for name in wanted if len(by_name[name]) > 1]
    if twice:
        raise DataUnavailableError(
            f"Which mask in {masks} is of which picture cannot be told, as several "
            f"files have the same name without ending: {few(twice)}. Rename them."
        )
    return PictureFiles(
        np.array(paths, object),
        np.zeros(len(paths), np.int64),
        masks=np.array([by_name[name][0] for name in wanted], object),
    )


def _named(path: str, folder: Path) -> str:
    """Return a file's name within a folder, without its ending."""
    return Path(path).relative_to(folder).with_suffix("").as_posix()
