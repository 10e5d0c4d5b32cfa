"""Pictures of unequal sizes, too many for memory: read, cropped, batched on the way."""

import abc
import numbers
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal, cast

import tensorflow as tf

from keras_densenet.data.augment import mirror
from keras_densenet.data.color import color_jitter, pca_lighting
from keras_densenet.data.crops import (
    Size,
    fit_of,
    random_resized_crop,
    resize_over,
    resize_to_input,
    sides,
    ten_crop,
)
from keras_densenet.data.datamodule import FACTS, DataModule
from keras_densenet.data.seeded import SeededDataModule
from keras_densenet.data.strong_augmentation import StrongAugmentation
from keras_densenet.tensor import Tensor

CROP, MIRROR, JITTER, LIGHTING, STRONG = range(5)  # each draws from a seed of its own
# Mean and standard deviation by the number of channels, 255 times 0.485, 0.456, 0.406
# and 0.229, 0.224, 0.225; of gray, and of alpha, their average.
IMAGENET = {
    1: ((114.495,), (57.63,)),
    3: ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    4: ((123.675, 116.28, 103.53, 114.495), (58.395, 57.12, 57.375, 57.63)),
}


class TenCrops(DataModule):
    """The ten views of each test picture, `(N, 10, H, W, channels)`, to test on.

    They are for a model that takes ten views and gives one answer; see
    `recipes/imagenet.py`.

    Args:
        data: The data module whose test pictures they are.

    Raises:
        ValueError: The pictures must not be mirrored, as five of ten views are.
    """

    def __init__(self, data: "PictureDataModule") -> None:
        _refuse_views(data)
        self._data = data
        for fact in FACTS:
            setattr(self, fact, getattr(data, fact))
        self.input_shape = (10, *data.input_shape)

    def prepare_data(self) -> None:
        """Prepare the pictures."""
        self._data.prepare_data()

    def setup(self, stage: str) -> None:
        """Set up the pictures."""
        self._data.setup(stage)

    def teardown(self, stage: str) -> None:
        """Let go of what the pictures' setup took."""
        self._data.teardown(stage)

    def train_dataset(self) -> tf.data.Dataset:
        """Raise an error: the ten views are to test on."""
        raise NotImplementedError(
            "TenCrops has pictures to test on, none to train on. Train on the data "
            "that it was made of."
        )

    def test_dataset(self) -> tf.data.Dataset:
        """Return the ten views and the labels."""
        return self._data.ten_crop_dataset()

    def predict_dataset(self) -> tf.data.Dataset:
        """Return the ten views alone."""
        return self.test_dataset().map(lambda views, labels: views)

    def predict_files(self) -> Mapping[int, str] | None:
        """Return the files of the pictures that the views are of."""
        return self._data.predict_files()

    def broken_file(self) -> str | None:
        """Return path and reason of a file that is broken; None if none is."""
        return self._data.broken_file()


def size_of(data: DataModule) -> tuple[int, ...]:
    """Return height and width of pictures, or of a view; of others all axes."""
    sides = data.input_shape[:-1]
    return sides[1:] if isinstance(data, TenCrops) else sides


@dataclass(eq=False, repr=False)
class PictureDataModule(SeededDataModule):
    """A data module over pictures of any size; a subclass says where they come from.

    Training pictures are cropped at random and mirrored; others are made `image_size`
    by `fit`. Both are resized by the same function. The arguments that are not listed
    here are those of `SeededDataModule`.

    Args:
        batch_size: Pictures in a global batch, over all replicas.
        image_size: Height and width of what the network sees, in pixels: one number for
            both, or the two.
        augment: Whether training pictures are augmented, by crops at random whatever
            `fit` is; if not, they are prepared as the others are.
        mirror: Whether about half of the augmented pictures are mirrored, left to
            right; False where the sides differ, as those of a chest do.
        fit: How a whole picture becomes `image_size`, in evaluation and when the
            network is served. "crop" resizes it to cover 256 / 224 of that size, and
            cuts the center out; "pad" resizes it to fit into that size, undistorted, in
            the middle of black (0, before pictures are standardized); "squash" resizes
            it to that size, whatever its proportions. None for "crop" where
            `image_size` is a square, and "squash" where it is none.
        jitter: How much brightness, contrast and saturation change, 0..1; the paper's
            is 0.4. Alpha stays as it is, and gray has no saturation.
        lighting: Standard deviation of PCA lighting, 0 or more; the paper's is 0.1.
            Gray pictures have none.
        method: Of `tf.image.resize`, "bicubic" or "bilinear".
        mean: Mean of each channel, in 0..255; None for ImageNet's, and for their
            average where a picture is gray, and of alpha.
        std: Standard deviation of each channel, in 0..255; None likewise.

    Attributes:
        channels: What a picture is decoded to: 1 for gray, 3 for RGB, 4 for RGBA. A
            subclass may make it an option, as `ImageFolder` does.
        crop_area: Least and largest share of a picture's area that a training picture
            is cut out of; a subclass may have another.
        short_side: Pixels of a picture's short side when its center is cut out, and
            ten views are: 256 where `image_size`, or its shorter side, is 224.

    Raises:
        ValueError: An argument is out of its range.
    """

    mean, std = IMAGENET[3]
    channels = 3
    crop_area = (0.08, 1.0)

    image_size: Size = 224
    _: KW_ONLY
    fit: str | None = None
    jitter: float = 0.0
    lighting: float = 0.0
    method: str = "bicubic"

    def __post_init__(self) -> None:
        """Check the arguments."""
        self.image_size = _whole_sides(self.image_size)
        fit_of(self.fit, self.image_size)  # which refuses others
        _refuse(self.jitter, self.lighting, self.method)
        _refuse_channels(self.channels, self.lighting)
        self.input_shape = (*sides(self.image_size), self.channels)
        self._take_imagenets_numbers()
        super().__post_init__()

    def _take_imagenets_numbers(self) -> None:
        """Let mean and std that are ImageNet's be those of the channels."""
        for name, of_rgb, ours in zip(
            ("mean", "std"), IMAGENET[3], IMAGENET[self.channels], strict=True
        ):
            if name not in vars(self) and getattr(self, name) is of_rgb is not ours:
                setattr(self, name, ours)

    @property
    def short_side(self) -> int:
        """Return the pixels of a picture's short side when its center is cut out."""
        return round(min(sides(self.image_size)) * 256 / 224)

    @abc.abstractmethod
    def _training_examples(
        self, first: int, an_epoch: int, seed: int
    ) -> tf.data.Dataset:
        """Return the (encoded picture, label) of the whole training, without end.

        Args:
            first: Number of the first to return, of all that are ever shown.
            an_epoch: Number of pictures that an epoch shows: whole batches.
            seed: Seed of their order.
        """

    @abc.abstractmethod
    def _examples(self, split: str) -> tf.data.Dataset:
        """Return the (encoded picture, label) of a split, in order."""

    @abc.abstractmethod
    def _decoded(self, encoded: Tensor) -> Tensor:
        """Decode one picture in a graph: uint8 `(H, W, channels)`."""

    def train_dataset(self) -> tf.data.Dataset:
        """Return the batches of the first epoch, whole ones only."""
        steps = self._steps()
        batches = self.train_batches(0).take(steps)
        # Where files are read one after another, TensorFlow cannot count ahead.
        return batches.apply(tf.data.experimental.assert_cardinality(steps))

    def train_batches(self, step: int) -> tf.data.Dataset:
        """Return the batches of the whole training from batch `step` on.

        What is drawn for a picture is a function of the seed, of its number among all
        that are ever shown, and of its batch's: it does not depend on threads or on
        where one begins.
        """
        first, an_epoch = step * self.batch_size, self._steps() * self.batch_size
        strong = StrongAugmentation(self.num_classes, self.strong)
        examples = tf.data.Dataset.zip(
            self._training_examples(first, an_epoch, cast(int, self.seed)),
            tf.data.Dataset.counter(first),
        ).map(
            lambda example, number: self._to_train(example, number, strong),
            num_parallel_calls=tf.data.AUTOTUNE,
        )
        batches = examples.batch(self.batch_size, drop_remainder=True)
        numbered = tf.data.Dataset.zip(batches, tf.data.Dataset.counter(step))

        def augmented(batch: Tensor, number: Tensor) -> tuple[Tensor, Tensor]:
            images = self._augmented(batch[0], number)
            labels = self._mirrored_labels(batch[1], number)
            return strong.batch(images, labels, self._seed(STRONG, number))

        batches = numbered.map(augmented, num_parallel_calls=tf.data.AUTOTUNE)
        return batches.prefetch(tf.data.AUTOTUNE)

    def _to_train(
        self, example: Tensor, number: Tensor, strong: StrongAugmentation
    ) -> tuple[Tensor, Tensor]:
        encoded, label = example
        image = self._decoded(encoded)
        if self.augment:
            seed = self._seed(CROP, number)
            crop = self._cropped(image, seed, self.method)
            label = self._cropped_label(label, image, seed)
        else:
            crop, label = self._prepared(image), self._prepared_label(label, image)
        return strong.picture(crop, self._seed(STRONG, number)), label

    def _cropped(self, image: Tensor, seed: Tensor, method: str) -> Tensor:
        return random_resized_crop(
            image, seed, self.image_size, area=self.crop_area, method=method
        )

    def _cropped_label(self, label: Tensor, image: Tensor, seed: Tensor) -> Tensor:
        """Return the label of a picture when that is cropped at random."""
        return label

    def _prepared_label(self, label: Tensor, image: Tensor) -> Tensor:
        """Return the label of a picture when that is prepared for evaluation."""
        return label

    def _mirrored_labels(self, labels: Tensor, step: Tensor) -> Tensor:
        """Return the labels of a batch of which some pictures were mirrored."""
        return labels

    def _augmented(self, images: Tensor, step: Tensor) -> Tensor:
        if self.augment and self.jitter:
            strengths = [float(self.jitter)] * 3
            images = color_jitter(images, self._seed(JITTER, step), *strengths)
        if self.augment and self.lighting:
            images = pca_lighting(images, self._seed(LIGHTING, step), self.lighting)
        if self.augment and self.mirror:
            images = mirror(images, self._seed(MIRROR, step))
        return self._standardized(images)

    def _seed(self, purpose: int, number: Tensor) -> Tensor:
        seed = tf.stack([tf.constant(self.seed, tf.int64), tf.cast(number, tf.int64)])
        return tf.random.fold_in(seed, purpose)

    def ten_crop_dataset(self) -> tf.data.Dataset:
        """Return the test pictures in ten views, `(N, 10, H, W, channels)`, and labels.

        See `keras_densenet.data.ten_crop` for their order. They are cut out of the
        undistorted picture, whatever `fit` is.

        Raises:
            ValueError: The pictures must not be mirrored, as five of ten views are.
        """
        _refuse_views(self)
        strong = StrongAugmentation(self.num_classes, self.strong)

        def views(encoded: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
            image = self._decoded(encoded)
            resized = resize_over(image, self.image_size, self.short_side, self.method)
            crops = ten_crop(resized, self.image_size)
            return self._standardized(crops), strong.labels(label)

        examples = self._examples("test")
        examples = examples.map(views, num_parallel_calls=tf.data.AUTOTUNE)
        return examples.batch(self.batch_size).prefetch(tf.data.AUTOTUNE)

    def predict_views(self, views: Literal["flip", 10]) -> tf.data.Dataset | None:
        """Return batches of several views of the test pictures."""
        if views != 10:
            return super().predict_views(views)
        self._refuse_mirrored(views)
        return self.ten_crop_dataset().map(lambda views, labels: views)

    def _in_order(self, split: str) -> tf.data.Dataset:
        strong = StrongAugmentation(self.num_classes, self.strong)

        def ready(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
            return self._standardized(images), strong.labels(labels)

        def prepared(encoded: Tensor, label: Tensor) -> tuple[Tensor, Tensor]:
            image = self._decoded(encoded)
            return self._prepared(image), self._prepared_label(label, image)

        examples = self._examples(split).map(
            prepared, num_parallel_calls=tf.data.AUTOTUNE
        )
        batches = examples.batch(self.batch_size).map(
            ready, num_parallel_calls=tf.data.AUTOTUNE
        )
        return batches.prefetch(tf.data.AUTOTUNE)

    def _prepared(self, image: Tensor) -> Tensor:
        return resize_to_input(
            image, self.image_size, self.short_side, self.method, self.fit
        )


def _whole_sides(image_size: Any) -> Size:
    """Return `image_size` as it is, or a pair of it as a tuple.

    Raises:
        ValueError: It is neither a number nor two, or below 1.
    """
    one = isinstance(image_size, numbers.Integral)
    pair = [image_size] if one else image_size
    right_kind = one or (isinstance(pair, list | tuple) and len(pair) == 2)
    if not right_kind or not all(map(_is_side, pair)):
        raise ValueError(
            "image_size must be 1 or more, a whole number of pixels for height and "
            f"width, or the two as (height, width). Received: image_size={image_size!r}"
        )
    return int(pair[0]) if one else (int(pair[0]), int(pair[1]))


def _is_side(side: Any) -> bool:
    whole = isinstance(side, numbers.Integral) and not isinstance(side, bool)
    return whole and side >= 1


def _refuse(jitter: float, lighting: float, method: str) -> None:
    if not 0 <= jitter <= 1 or not lighting >= 0:
        raise ValueError(
            "jitter must be in 0..1, and lighting must be 0 or more. Received: "
            f"jitter={jitter}, lighting={lighting}"
        )
    if method not in ("bicubic", "bilinear"):
        raise ValueError(
            f'method must be "bicubic" or "bilinear". Received: method={method!r}'
        )


def _refuse_channels(channels: int, lighting: float) -> None:
    if isinstance(channels, bool) or channels not in IMAGENET:
        raise ValueError(
            "channels must be 1 for gray pictures, 3 for RGB or 4 for RGBA. Received: "
            f"channels={channels!r}"
        )
    if channels == 1 and lighting:
        raise ValueError(
            "PCA lighting adds colors, which gray pictures do not have: leave lighting "
            f"at 0 with channels=1. Received: lighting={lighting}"
        )


def _refuse_views(data: PictureDataModule) -> None:
    if not data.mirror:
        raise ValueError(
            "Five of ten views are of the mirrored picture, which mirror=False rules "
            "out: test on the one view of each picture, as test_dataset() gives it."
        )
