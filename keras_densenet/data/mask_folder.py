"""Pictures of your own with masks, which say of each pixel which class it is of."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from keras_densenet.data.augment import mirror
from keras_densenet.data.crops import resize_to_input
from keras_densenet.data.groups import group_pattern
from keras_densenet.data.labeled_files import LabeledFiles
from keras_densenet.data.labeled_pictures import LabeledPictures
from keras_densenet.data.mask_files import (
    MaskCode,
    Value,
    broken_masks,
    read_mask,
)
from keras_densenet.data.mask_layout import MaskNames, find_masked_folder
from keras_densenet.data.picture_files import PictureFiles
from keras_densenet.data.pictures import MIRROR
from keras_densenet.errors import MisconfigurationError
from keras_densenet.pixel_classes import VOID
from keras_densenet.tensor import Tensor

_MOVING = ("mixup", "cutmix", "rand_augment")  # what masks would have to follow


class MaskedFiles(LabeledFiles):
    """Picture files with masks: both are looked at before training.

    Args:
        *arguments: Those of `LabeledFiles`.
        code: What the masks' pixels mean.
        **options: Those of `LabeledFiles`.
    """

    def __init__(self, *arguments: Any, code: MaskCode, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.code = code

    def _broken_labels(
        self, files: PictureFiles, broken: Mapping[str, str]
    ) -> dict[str, str]:
        assert files.masks is not None
        pairs = zip(files.paths, files.masks, strict=True)
        others = [
            pair
            for pair in pairs
            if pair[0] not in broken and self._checked.get(pair[1]) is not True
        ]
        pictures, masks = [p for p, _ in others], [m for _, m in others]
        found = broken_masks(pictures, masks, self.code)
        self._checked.update((m, True) for p, m in others if p not in found)
        return found


@dataclass(eq=False, repr=False)
class _RootAndClassesFirst:
    """The first arguments: a dataclass lists the fields of its last parent first."""

    root: str | os.PathLike
    classes: Sequence[str] | Mapping[str, Value]


@dataclass(eq=False, repr=False)
class MaskFolder(LabeledPictures, _RootAndClassesFirst):
    r"""Pictures and their masks in a folder, to train on a class for each pixel.

    Pictures are in `root/images/...`, masks in `root/masks/...`, each named as its
    picture is; `validation_fraction` of them is held out. Where there are splits, both
    folders are in `root/train`, `root/val` and `root/test`, or these are in both; or it
    is `root/train` and `root/trainannot`, and so on, as in CamVid. Validation and test
    pictures that have no folder are held out as `ImageFolder` does it.

    Masks are gray or palette pictures, whose pixels are numbers, or colored ones:
    `classes` says what they mean. Pixels that are `void` count neither in the loss nor
    in a metric; others that mean no class are refused, with the file's name. A mask
    has the size of the picture as it is shown. Each picture and each mask is decoded
    once before training.

    Augmentation crops, resizes and mirrors both alike, and where a picture is filled up
    (`fit="pad"`) its mask is void. Masks are resized to the nearest pixel.

    Labels are int32 `(N, H, W)`, 255 where the class is not known. The arguments that
    are not listed here are those of `ImageFolder`.

    Args:
        root: The folder.
        classes: Names of the classes whose numbers are 0, 1, 2, ...; or each one's
            pixel by its name, in the order of the class numbers: a number, as in
            `{"skin": 0, "lesion": 255}`, or a color, as in `{"sky": (128, 128, 128)}`.
        batch_size: Pictures in a global batch, over all replicas.
        image_size: Height and width of what the network sees, in pixels: one number for
            both, or the two.
        void: The pixel of a mask, or the pixels, whose class is not known: 255, unless
            a class has it; None for none.
        images: Name of the pictures' folder.
        masks: Name of the masks' folder.
        image_suffix: What a picture's name ends with that its mask's has not, such as
            "_leftImg8bit" of Cityscapes.
        mask_suffix: What a mask's name ends with that its picture's has not, such as
            "_L", or "_gtFine_labelIds" of Cityscapes.
        group: What belongs together in one split: see `ImageFolder`.

    Raises:
        DataUnavailableError: There is no such folder, or a picture has no mask.
        BrokenPictureError: Pictures or masks cannot be used. The error, raised in
            `setup`, names them.
        ValueError: An argument is out of its range.
    """

    labels = "pixels"
    crop_area = (0.25, 1.0)

    batch_size: int = 8
    _: KW_ONLY
    void: Value | Sequence[Value] | None = VOID
    images: str = "images"
    masks: str = "masks"
    image_suffix: str = ""
    mask_suffix: str = ""

    def __post_init__(self) -> None:
        """Check the arguments."""
        self._code = MaskCode(self.classes, self.void)
        self.class_names = self._code.names
        self.num_classes = len(self.class_names)
        super().__post_init__()
        if self.group is not None:
            group_pattern(self.group)  # which refuses what is none
        moving = [name for name in _MOVING if (self.strong or {}).get(name)]
        if moving:
            raise ValueError(
                f"{', '.join(moving)} would move pixels that masks are of: leave it "
                f"out. cutout can stay. Received: strong={self.strong}"
            )

    @property
    def folder(self) -> Path:
        """Return the folder of the files."""
        return Path(self.root).expanduser()

    def _where(self) -> MaskedFiles:
        names = MaskNames(self.images, self.masks, self.image_suffix, self.mask_suffix)
        find = partial(
            find_masked_folder, self.folder, names, self.shares, group=self.group
        )
        return MaskedFiles(
            self.folder,
            self.class_names,
            find,
            code=self._code,
            check_files=self.check_files,
            on_error=self.on_error,
        )

    def _add(self, split: str) -> str:
        return f"make folders {split}/{self.images}/ and {split}/{self.masks}/"

    @property
    def class_weight(self) -> dict[int, float]:
        """Refuse weights of classes: there are no classes of pictures."""
        raise MisconfigurationError(
            'class_weight="balanced" is for pictures of one class each: with masks '
            "leave it out."
        )

    @property
    def positive_weight(self) -> np.ndarray:
        """Refuse weights of labels, likewise."""
        raise MisconfigurationError(
            'positive_weight="balanced" is for pictures of several labels: with masks '
            "leave it out."
        )

    def ten_crop_dataset(self) -> tf.data.Dataset:
        """Refuse ten views, which have no mask in common."""
        raise MisconfigurationError(_NO_VIEWS)

    def predict_views(self, views: Literal["flip", 10]) -> tf.data.Dataset | None:
        """Refuse several views of a picture, whose pixels are at other places."""
        raise MisconfigurationError(_NO_VIEWS)

    def _cropped_label(self, label: Tensor, image: Tensor, seed: Tensor) -> Tensor:
        mask = read_mask(label, self._code, image)
        return _numbers(self._cropped(mask, seed, "nearest"))

    def _prepared_label(self, label: Tensor, image: Tensor) -> Tensor:
        # What "pad" fills up is 0, and must be void.
        mask = VOID - read_mask(label, self._code, image)
        prepared = resize_to_input(
            mask, self.image_size, self.short_side, "nearest", self.fit
        )
        return VOID - _numbers(prepared)

    def _mirrored_labels(self, labels: Tensor, step: Tensor) -> Tensor:
        if not (self.augment and self.mirror):
            return labels
        seed = self._seed(MIRROR, step)  # that of the pictures
        return mirror(labels[..., tf.newaxis], seed)[..., 0]


_NO_VIEWS = (
    "The pixels of several views of a picture are at other places, and their classes "
    "cannot be averaged. Leave views out."
)


def _numbers(mask: Tensor) -> Tensor:
    """Return class numbers int32 `(H, W)` of a mask `(H, W, 1)`."""
    return tf.cast(mask[..., 0], tf.int32)
