"""Pictures of your own: a folder with one folder a class."""

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from keras_densenet.data import folder_layout
from keras_densenet.data.groups import group_pattern
from keras_densenet.data.labeled_files import LabeledFiles
from keras_densenet.data.labeled_folder import find_labeled_folder
from keras_densenet.data.labeled_pictures import LabeledPictures


@dataclass(eq=False, repr=False)
class _RootFirst:
    """The first argument: a dataclass lists the fields of its last parent first."""

    root: str | os.PathLike


@dataclass(eq=False, repr=False)
class ImageFolder(LabeledPictures, _RootFirst):
    r"""Pictures in a folder, with one folder a class.

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
        group: What belongs together in one split, such as the pictures of a patient: a
            pattern that finds its name in a picture's path within its split's folder,
            in its parentheses, as r"(patient\d+)_". Then a hash of that name decides,
            and of the rarest class of each group all parts have the same share.
        balanced: Whether each class is shown as often as the others, however many
            pictures it has; an epoch has as many batches as without.
        check_files: Whether to look for broken pictures before training. If not, a
            broken picture ends the training when it is read, and JPEGs are decoded by
            Pillow, too.
        on_error: "raise" names the broken pictures in an error; "skip" leaves them out,
            with a warning that counts them.

    Raises:
        DataUnavailableError: There is no such folder, or there are no classes in it; or
            splits with folders of their own share a group.
        BrokenPictureError: There are broken pictures. The error, raised in `setup`,
            names them.
        ValueError: An argument is out of its range.
    """

    def __post_init__(self) -> None:
        """Check the arguments, and find the classes."""
        super().__post_init__()
        if self.group is not None:
            group_pattern(self.group)  # which refuses what is none
        self.class_names = folder_layout.class_names(Path(self.root).expanduser())
        self.num_classes = len(self.class_names)

    def _where(self) -> LabeledFiles:
        find = partial(
            find_labeled_folder,
            self.root,
            self.class_names,
            self.shares,
            group=self.group,
        )
        return LabeledFiles(
            self.root,
            self.class_names,
            find,
            check_files=self.check_files,
            on_error=self.on_error,
        )

    def _add(self, split: str) -> str:
        return f"make a folder {split}/"
