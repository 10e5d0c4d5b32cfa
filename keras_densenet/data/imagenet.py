"""ImageNet, from TensorFlow Datasets (TFDS) or from a folder."""

import os
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
import tensorflow_datasets as tfds

from keras_densenet.data.image_folder import ImageFolder
from keras_densenet.data.picture_files import decode_jpeg
from keras_densenet.data.pictures import PictureDataModule
from keras_densenet.data.preparation import builder_of, prepare

TFDS_SPLITS = {"train": "train", "val": "validation", "test": "validation"}
FOLDERS = {"train": "train", "val": "val", "test": "val"}
EPOCHS = 1_000_000  # more than any training has: each has a seed of its own


class ImageNet(PictureDataModule):
    """ImageNet 2012 (Russakovsky et al. 2015): 1,281,167 pictures in 1,000 classes.

    Training pictures are augmented as in the paper (section 4.1), which is
    fb.resnet.torch's way: a random crop of 8 to 100 % of the area resized to 224,
    color jitter of 0.4, PCA lighting of 0.1, mirrored. The 50,000 validation pictures
    are validated and tested on: the short side resized to 256, the center of 224 cut
    out, or ten views (`ten_crop_dataset`).

    Its license forbids that it is downloaded unasked: get ILSVRC2012_img_train.tar and
    ILSVRC2012_img_val.tar from https://image-net.org and name their folder in
    `manual_dir`.

    From TFDS each epoch reads the files in an order of its own, through a buffer of
    `shuffle_buffer` encoded pictures. A training that is resumed in the middle of an
    epoch reads again what the epoch has shown, and decodes none of it: at the end of an
    epoch 140 GB. From a folder each picture is found by its number.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        data_dir: Where TFDS keeps its data; by default `TFDS_DATA_DIR`, else TFDS's own
            default, `~/tensorflow_datasets`.
        folder: A folder with train/<class>/*.JPEG and val/<class>/*.JPEG, instead of
            TFDS; its classes may be fewer. val/ may be called validation/ or valid/.
        manual_dir: A folder with the two archives, from which TFDS prepares its files.
        image_size: Height and width of what the network sees, in pixels.
        shuffle_buffer: Encoded pictures in memory, of about 0.1 MB each.
        check_files: Whether to look for broken pictures in `folder` before training, as
            `ImageFolder` does: half an hour on two cores. If not, Pillow decodes all,
            which takes somewhat longer each epoch, and a broken one ends the training.
        on_error: "raise", or "skip" to leave out the broken pictures in `folder`.
        augment: Whether to augment training pictures.
        jitter: How much brightness, contrast and saturation change, 0..1.
        lighting: Standard deviation of PCA lighting.
        method: Of `tf.image.resize`, "bicubic" or "bilinear".
        seed: Seed of shuffling and augmentation; see `PictureDataModule`.
        mean: Of each channel, in 0..255; None for ImageNet's.
        std: Of each channel, in 0..255; None for ImageNet's.
        strong: Mixup, cutmix, cutout, RandAugment; see `StrongAugmentation`.

    Raises:
        DataUnavailableError: There is no such folder; or in `prepare_data`, with the
            ways out.
    """

    pictures = 1_281_167
    validation_pictures = 50_000

    def __init__(
        self,
        batch_size: int = 256,
        data_dir: str | os.PathLike | None = None,
        *,
        folder: str | os.PathLike | None = None,
        manual_dir: str | os.PathLike | None = None,
        image_size: int = 224,
        shuffle_buffer: int = 10_000,
        check_files: bool = False,
        on_error: str = "raise",
        augment: bool = True,
        jitter: float = 0.4,
        lighting: float = 0.1,
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
        _refuse_two_places(data_dir, folder, manual_dir)
        self.data_dir = data_dir or os.environ.get("TFDS_DATA_DIR")
        self.folder = folder
        self.manual_dir = manual_dir
        self.shuffle_buffer = shuffle_buffer
        self.check_files = check_files
        self.on_error = on_error
        self._files: ImageFolder | None = None
        if folder is not None:
            self._files = ImageFolder(
                *(folder, batch_size, image_size),
                validation_fraction=0,
                check_files=check_files,
                on_error=on_error,
            )
            self._files.refuse_without("val")
        self.class_names = tuple(self._class_names())
        self.num_classes = len(self.class_names)

    def prepare_data(self) -> None:
        """Let TFDS prepare its files from the archives in `manual_dir`, if needed."""
        if self._files is None:
            prepare(
                self._builder(),
                title="ImageNet",
                data_dir=self.data_dir,
                manual_dir=self.manual_dir,
            )

    def setup(self, stage: str) -> None:
        """Find the files of a folder, once."""
        if self._files is not None:
            self._files.setup("fit" if stage == "fit" else "validate")

    def _class_names(self) -> Sequence[str]:
        if self._files is not None:
            return self._files.class_names
        return self._builder().info.features["label"].names

    def _builder(self) -> Any:
        return builder_of("imagenet2012", "ImageNet", self.data_dir)

    def _pictures(self, split: str) -> int:
        if self._files is not None:
            return self._files._pictures(FOLDERS[split])
        splits, name = self._builder().info.splits, TFDS_SPLITS[split]
        if name in splits:
            return splits[name].num_examples
        return self.pictures if name == "train" else self.validation_pictures

    def _training_examples(self, first: int) -> tf.data.Dataset:
        if self._files is not None:
            # Both may have changed since: by a tuner, by a checkpoint.
            self._files.batch_size, self._files.seed = self.batch_size, self.seed
            return self._files._training_examples(first)
        an_epoch = self._steps() * self.batch_size
        begun = first // an_epoch

        def epoch(number: Any) -> tf.data.Dataset:
            seen = tf.where(number == begun, first % an_epoch, 0)
            shuffled = self._shuffled(self.seed * EPOCHS + number)
            return shuffled.take(an_epoch).skip(tf.cast(seen, tf.int64))

        return tf.data.Dataset.counter(begun).flat_map(epoch)

    def _shuffled(self, seed: Any) -> tf.data.Dataset:
        """Give an epoch in an order that depends on `seed` alone, in a graph."""
        # Of this graph alone: else the order would depend on the program's seed, too.
        # Beside 0 TensorFlow would look at `seed`, which has no value yet.
        tf.random.set_seed(1)
        config = tfds.ReadConfig(
            shuffle_seed=seed, try_autocache=False, skip_prefetch=True
        )
        records = self._read("train", shuffle_files=True, read_config=config)
        return records.shuffle(
            self.shuffle_buffer, seed=seed, reshuffle_each_iteration=False
        )

    def _examples(self, split: str) -> tf.data.Dataset:
        if self._files is not None:
            return self._files._examples(FOLDERS[split])
        return self._read(TFDS_SPLITS[split], shuffle_files=False)

    def _read(self, split: str, **options: Any) -> tf.data.Dataset:
        """Read (encoded picture, label)."""
        return self._builder().as_dataset(
            split=split,
            decoders={"image": tfds.decode.SkipDecoding()},
            as_supervised=True,
            **options,
        )

    def _decoded(self, encoded: Any) -> Any:
        if self._files is not None:
            return self._files._decoded(encoded)
        return decode_jpeg(encoded)  # TFDS has made JPEGs in RGB of all


def _refuse_two_places(
    data_dir: str | os.PathLike | None,
    folder: str | os.PathLike | None,
    manual_dir: str | os.PathLike | None,
) -> None:
    if folder is not None and (data_dir is not None or manual_dir is not None):
        raise ValueError(
            "ImageNet is read from TFDS's data_dir, which is prepared from manual_dir, "
            f"or from a folder: give one. Received: data_dir={data_dir!r}, "
            f"manual_dir={manual_dir!r}, folder={folder!r}"
        )
