"""ImageNet, from TensorFlow Datasets (TFDS) or from a folder."""

import os
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from pathlib import Path

import tensorflow as tf

from keras_densenet.data import folder_layout
from keras_densenet.data.crops import Size
from keras_densenet.data.imagenet_records import ImageNetRecords
from keras_densenet.data.labeled_files import LabeledFiles, refuse_on_error
from keras_densenet.data.labeled_folder import find_labeled_folder, refuse_without
from keras_densenet.data.pictures import PictureDataModule
from keras_densenet.tensor import Tensor


@dataclass(eq=False, repr=False)
class ImageNet(PictureDataModule):
    """ImageNet 2012 (Russakovsky et al. 2015): 1,281,167 pictures in 1,000 classes.

    Training pictures are augmented as in the paper (section 4.1), which is
    fb.resnet.torch's way: a random crop of 8 to 100 % of the area resized to 224,
    color jitter of 0.4, PCA lighting of 0.1, mirrored. The 50,000 validation pictures
    are validated and tested on: the short side resized to 256, the center of 224 cut
    out, or ten views (`ten_crop_dataset`).

    Its license forbids that it is downloaded unasked: get ILSVRC2012_img_train.tar and
    ILSVRC2012_img_val.tar from https://image-net.org and name their folder in
    `manual_dir`. Pictures that are unpacked already are read from `folder`.

    From TFDS each epoch reads the files in an order of its own, through a buffer of
    `shuffle_buffer` encoded pictures. A training that is resumed in the middle of an
    epoch reads again what the epoch has shown, and decodes none of it: at the end of an
    epoch 140 GB. From a folder each picture is found by its number.

    The arguments that are not listed here are those of `PictureDataModule` and of
    `SeededDataModule`.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        data_dir: Where TFDS keeps its data; by default `TFDS_DATA_DIR`, else TFDS's own
            default, `~/tensorflow_datasets`.
        folder: A folder with train/<class>/*.JPEG and val/<class>/*.JPEG, instead of
            TFDS; its classes may be fewer. val/ may be called validation/ or valid/.
        manual_dir: A folder with the two archives, from which TFDS prepares its files.
        image_size: Height and width of what the network sees, in pixels: one number for
            both, or the two.
        shuffle_buffer: Encoded pictures in memory, of about 0.1 MB each.
        check_files: Whether to look for broken pictures in `folder` before training, as
            `ImageFolder` does: half an hour on two cores. If not, Pillow decodes all,
            which takes somewhat longer each epoch, and a broken one ends the training.
        on_error: "raise", or "skip" to leave out the broken pictures in `folder`.

    Raises:
        DataUnavailableError: There is no such folder; or, in `prepare_data`, TFDS has
            not got the archives, and the error names the ways out.
    """

    pictures = 1_281_167
    validation_pictures = 50_000

    batch_size: int = 256
    data_dir: str | os.PathLike | None = None
    _: KW_ONLY
    folder: str | os.PathLike | None = None
    manual_dir: str | os.PathLike | None = None
    image_size: Size = field(default=224, kw_only=True)
    shuffle_buffer: int = 10_000
    check_files: bool = False
    on_error: str = "raise"
    jitter: float = 0.4
    lighting: float = 0.1

    def __post_init__(self) -> None:
        """Check the arguments, and find the classes."""
        super().__post_init__()
        _refuse_two_places(self.data_dir, self.folder, self.manual_dir)
        self.data_dir = self.data_dir or os.environ.get("TFDS_DATA_DIR")
        self._unpacked = self._in_folder()
        self.class_names = tuple(self._source.class_names)
        self.num_classes = len(self.class_names)

    def _in_folder(self) -> LabeledFiles | None:
        """Return the pictures of `folder`, if one is given."""
        if self.folder is None:
            return None
        refuse_on_error(self.on_error, self.check_files)
        refuse_without(self.folder, "val")
        names = folder_layout.class_names(Path(self.folder).expanduser())
        found = LabeledFiles(
            self.folder,
            names,
            partial(find_labeled_folder, self.folder, names, {}),
            check_files=self.check_files,
            on_error=self.on_error,
        )
        found.files("val")  # which refuses an empty folder
        return found

    @property
    def _source(self) -> LabeledFiles | ImageNetRecords:
        """Return where the pictures come from, which nothing else asks."""
        if self._unpacked is not None:
            return self._unpacked
        return ImageNetRecords(
            self.data_dir,
            self.manual_dir,
            self.shuffle_buffer,
            {"train": self.pictures, "val": self.validation_pictures},
        )

    def prepare_data(self) -> None:
        """Let TFDS prepare its files from the archives in `manual_dir`, if needed."""
        self._source.prepare()

    def setup(self, stage: str) -> None:
        """Find the files of a folder, once."""
        self._source.setup(("train", "val") if stage == "fit" else ("val",))

    def predict_files(self) -> dict[int, str] | None:
        """Return the paths of the pictures within the folder, if there is one."""
        return self._unpacked.relative_paths("val") if self._unpacked else None

    def broken_file(self) -> str | None:
        """Return path and reason of a file that is broken by now; None if none is."""
        return self._unpacked.broken_file() if self._unpacked else None

    def _pictures(self, split: str) -> int:
        return self._source.count(_stored(split))

    def _training_examples(
        self, first: int, an_epoch: int, seed: int
    ) -> tf.data.Dataset:
        return self._source.shuffled(first, an_epoch, seed)

    def _examples(self, split: str) -> tf.data.Dataset:
        return self._source.in_order(_stored(split))

    def _decoded(self, encoded: Tensor) -> Tensor:
        return self._source.decoded(encoded)


def _stored(split: str) -> str:
    """Return the split whose pictures are shown: labels of the test were never told."""
    return "train" if split == "train" else "val"


def _refuse_two_places(
    data_dir: str | os.PathLike | None,
    folder: str | os.PathLike | None,
    manual_dir: str | os.PathLike | None,
) -> None:
    if folder is not None and (data_dir is not None or manual_dir is not None):
        raise ValueError(
            "ImageNet is read either from TFDS's data_dir, which is prepared from "
            "manual_dir, or from a folder; give one of them. Received: "
            f"data_dir={data_dir!r}, "
            f"manual_dir={manual_dir!r}, folder={folder!r}"
        )
