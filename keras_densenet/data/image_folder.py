"""Pictures of your own: a folder with one folder a class."""

import hashlib
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from keras_densenet.data import picture_files, sampling
from keras_densenet.data.picture_files import PictureFiles
from keras_densenet.data.pictures import PictureDataModule
from keras_densenet.data.preparation import DataUnavailableError

SPLITS = {"train": ("train",), "val": ("val", "validation", "valid"), "test": ("test",)}
OTHER_SPLITS = {"training", "testing"}  # that others call so; and capital letters
NEEDED = {"fit": ("train", "val"), "validate": ("val",)}  # by stage; else the test
LAYOUT = (
    "Give a folder with train/<class>/*.jpg, and val/ and test/ like it if there are "
    "such, or a folder with <class>/*.jpg, from which parts are held out."
)


class ImageFolder(PictureDataModule):
    """Pictures in a folder, with one folder a class.

    Either `root/train/<class>/...` with `root/val` (or `validation`, `valid`) and
    `root/test` where there are such, or `root/<class>/...`. Where there is no
    `root/val`, `validation_fraction` of the pictures is held out, and `test_fraction`
    where there is no `root/test`: the same share of each class, at least one picture
    where it can spare one, and the same pictures on every machine and with every seed.
    Which ones depends on a hash of their paths: pictures that are added later leave
    most of the others where they are, in a class of thousands nearly all, and none
    becomes a test picture that was one to validate on. Classes are the folders' names,
    sorted.

    JPEG, PNG, BMP, GIF, WebP, TIFF and PNM of any size; gray, palette, RGBA (on white),
    CMYK and 16-bit pictures become 8-bit RGB, EXIF's orientation is obeyed, an
    animation gives its first frame. Each picture is decoded once before training, to
    find broken ones: about a minute for 40,000 of 500x400 pixels on two cores.

    Training pictures are cropped at random, resized and mirrored (`augment`); others
    have their short side resized to 256 / 224 of `image_size` and the center cut out.

    Args:
        root: The folder.
        batch_size: Pictures in a global batch, over all replicas.
        image_size: Height and width of what the network sees, in pixels.
        validation_fraction: Share held out for validation, 0 <= x < 1.
        test_fraction: Share held out for the test, 0 <= x < 1.
        balanced: Whether each class is shown as often as the others, however many
            pictures it has; an epoch has as many batches as without.
        check_files: Whether to look for broken pictures before training. If not, a
            broken picture ends the training when it is read, and JPEGs are decoded by
            Pillow, too.
        on_error: "raise" names the broken pictures in an error; "skip" leaves them out,
            with a warning that counts them.
        augment: Whether to augment training pictures.
        jitter: How much brightness, contrast and saturation change, 0..1.
        lighting: Standard deviation of PCA lighting.
        method: Of `tf.image.resize`, "bicubic" or "bilinear".
        seed: Seed of shuffling and augmentation; see `PictureDataModule`.
        mean: Of each channel, in 0..255; None for ImageNet's.
        std: Of each channel, in 0..255; None for ImageNet's.
        strong: Mixup, cutmix, cutout, RandAugment; see `StrongAugmentation`.

    Raises:
        DataUnavailableError: There is no such folder, or no class in it.
        BrokenPictureError: In `setup`, with the paths.
    """

    def __init__(
        self,
        root: str | os.PathLike,
        batch_size: int = 32,
        image_size: int = 224,
        *,
        validation_fraction: float = 0.1,
        test_fraction: float = 0.0,
        balanced: bool = False,
        check_files: bool = True,
        on_error: str = "raise",
        augment: bool = True,
        jitter: float = 0.0,
        lighting: float = 0.0,
        method: str = "bicubic",
        seed: int | None = None,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        strong: dict[str, float] | None = None,
    ) -> None:
        super().__init__(
            batch_size,
            image_size,
            augment=augment,
            jitter=jitter,
            lighting=lighting,
            method=method,
            seed=seed,
            mean=mean,
            std=std,
            strong=strong,
        )
        _refuse_fractions(validation_fraction, test_fraction)
        _refuse_on_error(on_error, check_files)
        self.root = root
        self.validation_fraction = validation_fraction
        self.test_fraction = test_fraction
        self.balanced = balanced
        self.check_files = check_files
        self.on_error = on_error
        self.class_names = _class_names(Path(root).expanduser())
        self.num_classes = len(self.class_names)
        self._listed: dict[str, PictureFiles] = {}
        self._plain: dict[str, np.ndarray] = {}

    @property
    def class_weight(self) -> dict[int, float]:
        """Give weights that make up for unequal classes, for Keras's `class_weight`.

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
        """Find the files that `stage` needs, and look at each, once."""
        for split in NEEDED.get(stage, ("test",)):
            if split not in self._plain:
                self._check(split)

    def teardown(self, stage: str) -> None:
        """Keep what was found: it is small, and takes long to find."""

    def refuse_without(self, split: str) -> None:
        """Refuse a folder that has none for a split.

        Raises:
            DataUnavailableError: It has not.
        """
        folders = _folders(Path(self.root).expanduser())
        if split not in folders or not self._pictures(split):
            raise DataUnavailableError(
                f"{self.root} has no folders train/ and {split}/, each with one folder "
                "a class."
            )

    def _check(self, split: str) -> None:
        """Leave out what is broken, or say so; note what TensorFlow can decode."""
        files = self._files(split)
        plain = np.zeros(len(files), bool)
        if self.check_files:
            plain, broken = picture_files.check(files.paths)
            if self.on_error == "raise":
                picture_files.refuse_broken(broken, len(files))
            whole = np.array([path not in broken for path in files.paths], bool)
            files, plain = files.at(whole), plain[whole]
            _warn_of(broken, split)
        if split == "train":
            _refuse_empty_classes(files.labels, self.class_names, self.root)
        self._listed[split], self._plain[split] = files, plain

    def _files(self, split: str) -> PictureFiles:
        if not self._listed:
            self._listed = self._find()
        return self._listed[split]

    def _find(self) -> dict[str, PictureFiles]:
        """Find all files, and hold out what has no folder of its own."""
        folders = _folders(Path(self.root).expanduser())
        found = {
            split: picture_files.find(folder, self.class_names)
            for split, folder in folders.items()
        }
        _refuse_empty_classes(found["train"].labels, self.class_names, self.root)
        empty = [
            str(folders[split]) for split, files in found.items() if not len(files)
        ]
        if empty:
            raise DataUnavailableError(
                f"There are no pictures in {', '.join(empty)}: put some there, one "
                "folder a class, or take it away, and a share is held out."
            )
        fractions = {"val": self.validation_fraction, "test": self.test_fraction}
        fractions = {split: f for split, f in fractions.items() if split not in found}
        return found | _held_out(found["train"], fractions, folders["train"])

    def _pictures(self, split: str) -> int:
        return len(self._files(split))

    def _training_examples(self, first: int) -> tf.data.Dataset:
        files = self._files("train")
        paths, plain, labels = self._tensors("train")
        an_epoch = self._steps() * self.batch_size
        if self.balanced:
            number = sampling.balanced(files.labels, self.num_classes, self.seed)
        else:
            number = sampling.each_once(len(files), an_epoch, self.seed)

        def example(place: Any) -> tuple[Any, Any]:
            n = number(place)
            return (paths[n], plain[n]), labels[n]

        places = tf.data.Dataset.counter(first)
        return places.map(example, num_parallel_calls=tf.data.AUTOTUNE)

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

    def _examples(self, split: str) -> tf.data.Dataset:
        self.refuse_empty(split)
        paths, plain, labels = self._tensors(split)
        return tf.data.Dataset.from_tensor_slices(((paths, plain), labels))

    def _tensors(self, split: str) -> tuple[Any, Any, Any]:
        files = self._files(split)
        paths = [os.fsencode(path) for path in files.paths]
        return (
            tf.constant(paths, tf.string),
            tf.constant(self._plain[split]),
            tf.constant(files.labels),
        )

    def _decoded(self, encoded: Any) -> Any:
        return picture_files.read_picture(*encoded)


def _held_out(
    files: PictureFiles, fractions: Mapping[str, float], root: Path
) -> dict[str, PictureFiles]:
    """Take the same share of each class out of the training pictures.

    In an order by a hash of their paths, validation pictures are the first of a class,
    test pictures the last: where there are more later, neither become the other.
    """
    splits = np.full(len(files), "train", object)
    for label in np.unique(files.labels):
        (numbers,) = np.nonzero(files.labels == label)
        hashes = [_hash(str(path), root) for path in files.paths[numbers]]
        order = numbers[np.argsort(hashes)]
        spare = len(order) - 1  # one is to train on
        for split, fraction in fractions.items():
            many = min(spare, max(1, round(fraction * len(order)))) if fraction else 0
            spare -= many
            places = range(many) if split == "val" else range(-many, 0)
            splits[[order[place] for place in places]] = split
    return {split: files.at(splits == split) for split in ("train", *fractions)}


def _hash(path: str, root: Path) -> bytes:
    """Give what is the same wherever the folder is."""
    inside = Path(path).relative_to(root).as_posix()
    return hashlib.sha256(os.fsencode(inside)).digest()


def _refuse_fractions(validation: float, test: float) -> None:
    if validation < 0 or test < 0 or validation + test >= 1:
        raise ValueError(
            "validation_fraction and test_fraction must be 0 or more and together less "
            f"than 1. Received: validation_fraction={validation}, test_fraction={test}"
        )


def _refuse_on_error(on_error: str, check_files: bool) -> None:
    if on_error not in ("raise", "skip"):
        raise ValueError(
            f'on_error must be "raise" or "skip". Received: on_error={on_error!r}'
        )
    if on_error == "skip" and not check_files:
        raise ValueError(
            "on_error='skip' leaves out what is found to be broken before training: it "
            "needs check_files=True. Received: check_files=False"
        )


def _folders(root: Path) -> dict[str, Path]:
    """Give the folder of each split that has one; "train" always has."""
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
                f"{', '.join(folder.name for folder in folders)}. Keep one. {LAYOUT}"
            )
    return {split: folders[0] for split, folders in there.items() if folders}


def _refuse_splits_as_classes(names: Sequence[str], root: Path) -> None:
    """Refuse Train/ and valid/ without train/, which would be classes."""
    splits = OTHER_SPLITS.union(*SPLITS.values())
    wrong = [name for name in names if name.lower() in splits]
    if wrong and not (root / "train").is_dir():
        raise DataUnavailableError(
            f"{root} has no folder train/, and {', '.join(wrong)} would be classes. "
            f"Give the folders those names: train, val, test. {LAYOUT}"
        )


def _refuse_pictures_without_class(folders: Mapping[str, Path]) -> None:
    for folder in folders.values():
        if not picture_files.class_folders(folder) and picture_files.has_any(folder):
            raise DataUnavailableError(
                f"{folder} has pictures, but no folder a class: put each picture into "
                f"the folder of its class. {LAYOUT}"
            )


def _refuse_one_level_too_high(folder: Path, names: Sequence[str]) -> None:
    """Refuse one folder of folders, which would be one class."""
    if len(names) != 1:
        return
    within = picture_files.class_folders(folder / names[0])
    alone = all(entry.is_dir() for entry in (folder / names[0]).iterdir())
    if alone and len(within) > 1:
        raise DataUnavailableError(
            f"{folder} has one folder, {names[0]}, which would be the only class. Its "
            f"folders seem to be the classes: give {folder / names[0]}. {LAYOUT}"
        )


def _class_names(root: Path) -> Sequence[str]:
    if not root.is_dir():
        raise DataUnavailableError(f"There is no folder {root}. {LAYOUT}")
    folders = _folders(root)
    folder = folders["train"]
    names = tuple(picture_files.class_folders(folder))
    _refuse_pictures_without_class(folders)
    _refuse_splits_as_classes(names, root)
    if not names:
        raise DataUnavailableError(f"{folder} has no folders in it. {LAYOUT}")
    _refuse_one_level_too_high(folder, names)
    return names


def _refuse_empty_classes(
    labels: np.ndarray, names: Sequence[str], root: str | os.PathLike
) -> None:
    many = np.bincount(labels, minlength=len(names))
    empty = [name for name, n in zip(names, many, strict=True) if n == 0]
    if empty:
        kinds = ", ".join(sorted(picture_files.SUFFIXES))
        raise ValueError(
            f"There are no pictures to train on in {root} of: {', '.join(empty)}. Add "
            f"some ({kinds}), or take the folders away."
        )


def _warn_of(broken: Mapping[str, str], split: str) -> None:
    if broken:
        warnings.warn(
            f"{len(broken)} {split} pictures cannot be read and are left out:\n"
            f"{picture_files.named(broken)}",
            stacklevel=4,
        )
