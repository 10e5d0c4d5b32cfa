"""Pictures of your own: a folder with one folder a class."""

import os
from dataclasses import KW_ONLY, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_densenet.data import folder_layout
from keras_densenet.data.labeled_folder import LabeledFolder, refuse_on_error
from keras_densenet.data.picture_files import PictureFiles
from keras_densenet.data.pictures import PictureDataModule
from keras_densenet.tensor import Tensor

# By stage; else the test pictures. Training looks at these, too: what is broken would
# end a test after hours of training.
NEEDED = {"fit": ("train", "val", "test"), "validate": ("val",)}


@dataclass(eq=False, repr=False)
class _RootFirst:
    """The first argument: a dataclass lists the fields of its last parent first."""

    root: str | os.PathLike


@dataclass(eq=False, repr=False)
class ImageFolder(PictureDataModule, _RootFirst):
    """Pictures in a folder, with one folder a class.

    The pictures are in `root/train/<class>/...`, with `root/val` (or `validation`,
    `valid`) and `root/test` where there are such, or in `root/<class>/...`. Classes are
    the folders' names, sorted. Where there is no `root/val`, `validation_fraction` of
    the pictures is held out, and `test_fraction` where there is no `root/test`: the
    same share of each class, at least one picture where the class can spare one, and
    the same pictures on every machine and with every seed. A hash of its path decides
    where a picture belongs. Pictures that are added later leave most of the others
    where they are, in a class of thousands nearly all, and no picture to validate on
    becomes one to test on. A run keeps its split in its checkpoints: when it is resumed
    or tested from them, added and removed files move no other.

    Pictures are what Pillow reads, of any size: JPEG, PNG, WebP, TIFF, AVIF, JPEG 2000
    and others, by their endings, and where these are unknown by what is in them. A
    warning counts the files that are left out. Gray, palette, RGBA (on white), CMYK and
    16-bit pictures become 8-bit RGB, or what `channels` asks for, EXIF's orientation is
    obeyed, and of an animation the first frame is taken. Pixels of unknown range, as of
    32-bit TIFFs, are refused, and a warning tells of 16-bit pictures that are all
    nearly black. Each picture is decoded once before training, to find broken ones:
    that takes about a minute for 40,000 of 500x400 pixels on two cores.

    Training pictures are cropped at random, resized and mirrored (`augment`, `mirror`);
    others become `image_size` as `fit` says: where that is a square, their short side
    is resized to 256 / 224 of it and the center cut out.
    The arguments that are not listed here are those of `PictureDataModule` and of
    `SeededDataModule`.

    Args:
        root: The folder.
        batch_size: Pictures in a global batch, over all replicas.
        image_size: Height and width of what the network sees, in pixels: one number for
            both, or the two.
        channels: What pictures are decoded to: 1 for gray, 3 for RGB, 4 for RGBA. Gray
            of a color is 0.299 of its red, 0.587 of its green and 0.114 of its blue, to
            the bit as Pillow's convert("L") of the RGB picture, of JPEGs too. With 1
            and 3 what is transparent lies on white; with 4 alpha is kept, and is 255
            where a picture has none.
        validation_fraction: Share held out for validation, 0 <= x < 1.
        test_fraction: Share held out for the test, 0 <= x < 1.
        balanced: Whether each class is shown as often as the others, however many
            pictures it has; an epoch has as many batches as without.
        check_files: Whether to look for broken pictures before training. If not, a
            broken picture ends the training when it is read, and JPEGs are decoded by
            Pillow, too.
        on_error: "raise" names the broken pictures in an error; "skip" leaves them out,
            with a warning that counts them.

    Raises:
        DataUnavailableError: There is no such folder, or there are no classes in it.
        BrokenPictureError: There are broken pictures. The error, raised in `setup`,
            names them.
        ValueError: An argument is out of its range.
    """

    batch_size: int = 32
    _: KW_ONLY
    channels: int = 3
    validation_fraction: float = 0.1
    test_fraction: float = 0.0
    balanced: bool = False
    check_files: bool = True
    on_error: str = "raise"

    def __post_init__(self) -> None:
        """Check the arguments, and find the classes."""
        super().__post_init__()
        _refuse_fractions(self.validation_fraction, self.test_fraction)
        refuse_on_error(self.on_error, self.check_files)
        self.class_names = folder_layout.class_names(Path(self.root).expanduser())
        self.num_classes = len(self.class_names)

    @cached_property
    def _found(self) -> LabeledFolder:
        """Return the pictures, as the attributes are when they are first needed."""
        return LabeledFolder(
            self.root,
            self.class_names,
            {"val": self.validation_fraction, "test": self.test_fraction},
            check_files=self.check_files,
            on_error=self.on_error,
        )

    @property
    def class_weight(self) -> dict[int, float]:
        """Return weights that make up for unequal classes, for Keras's `class_weight`.

        A class with n_c of n pictures to train on weighs n / (classes * n_c), so that
        the mean over the pictures is 1. With `balanced`, which makes up for them
        already, each weighs 1.
        """
        if self.balanced:
            return dict.fromkeys(range(self.num_classes), 1.0)
        labels = self._files("train").labels
        many = np.bincount(labels, minlength=self.num_classes)
        weights = len(labels) / (self.num_classes * many)
        return dict(enumerate(weights.tolist()))

    def setup(self, stage: str) -> None:
        """Find the files that `stage` needs, and look at each of them, once."""
        self._found.setup(NEEDED.get(stage, ("test",)))

    def state_dict(self) -> dict[str, Any]:
        """Return the seed, and what is held out of each class: a hash a part."""
        borders = self._found.borders
        return super().state_dict() | ({"held_out": borders} if borders else {})

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on with the order and with the split that the resumed run had."""
        super().load_state_dict(state)
        self.keep_split(state)

    def keep_split(self, state: dict[str, Any]) -> bool:
        """Hold out the pictures that a run held out."""
        borders = state.get("held_out")  # None of runs before it was kept
        return self._found.keep_borders(borders) if borders else False

    def teardown(self, stage: str) -> None:
        """Keep what was found: it is small, and takes long to find."""

    def fingerprint(self) -> dict[str, Any]:
        """Return how many pictures to train and to validate on there are, and a hash.

        Of names within `root`, labels and some of the files' contents.
        """
        return {split: self._found.fingerprint(split) for split in ("train", "val")}

    def predict_files(self) -> dict[int, str]:
        """Return the paths of the test pictures within the folder, by their numbers."""
        return self._found.relative_paths("test")

    def broken_file(self) -> str | None:
        """Return path and reason of a file that is broken by now; None if none is."""
        return self._found.broken_file()

    def refuse_empty(self, split: str) -> None:
        """Refuse to be asked for a split that has no pictures.

        Raises:
            ValueError: It has none.
        """
        if not self._pictures(split):
            raise ValueError(
                f"{self.root} has no {split} pictures: make a folder {split}/, or hold "
                f"a share out. Received: validation_fraction="
                f"{self.validation_fraction}, test_fraction={self.test_fraction}"
            )

    def _files(self, split: str) -> PictureFiles:
        return self._found.files(split)

    def _pictures(self, split: str) -> int:
        return self._found.count(split)

    def _training_examples(
        self, first: int, an_epoch: int, seed: int
    ) -> tf.data.Dataset:
        if self.balanced:
            return self._found.balanced(first, seed)
        return self._found.shuffled(first, an_epoch, seed)

    def _examples(self, split: str) -> tf.data.Dataset:
        self.refuse_empty(split)
        return self._found.in_order(split)

    def _decoded(self, encoded: tuple[Tensor, Tensor]) -> Tensor:
        return self._found.decoded(encoded, self.channels)


def _refuse_fractions(validation: float, test: float) -> None:
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ValueError(
            "validation_fraction and test_fraction must be 0 or more and together less "
            f"than 1. Received: validation_fraction={validation}, test_fraction={test}"
        )
