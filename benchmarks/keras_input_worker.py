"""A process that makes training batches with tf.data: our pipeline or a tutorial's.

The tutorial's, `plain`, maps one picture at a time: shuffle, map, batch, prefetch. It
does the same work as ours, but its order and augmentation cannot be resumed.
"""

import time

STARTED = time.perf_counter()  # before what takes seconds to import

import os  # noqa: E402
from pathlib import Path  # noqa: E402

import worker  # noqa: E402

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import keras_densenet as kd  # noqa: E402

VARIANTS = ["cifar_ours", "cifar_plain", "jpeg_ours", "jpeg_plain"]
AUTOTUNE = tf.data.AUTOTUNE


class Pixels(kd.data.CIFAR10):
    """Random pixels of CIFAR-10's size: 50,000 pictures."""

    def load_splits(self, stage):
        """Draw the pictures."""
        del stage
        images, labels = pixels()
        return {"train": kd.data.Split(images, labels)}


def pixels() -> tuple[np.ndarray, np.ndarray]:
    """Draw 50,000 pictures and labels."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (50_000, 32, 32, 3), dtype=np.uint8)
    return images, rng.integers(0, 10, 50_000)


def cifar_ours(arguments) -> tf.data.Dataset:
    """Return our batches of random pixels."""
    data = Pixels(arguments.batch_size, seed=0, validation_size=0)
    data.setup("fit")
    return data.train_batches(0)


def cifar_plain(arguments) -> tf.data.Dataset:
    """Standardize, mirror, pad and crop a picture at a time."""
    mean, std = (tf.constant(x) for x in (kd.data.CIFAR10.mean, kd.data.CIFAR10.std))

    def augmented(image, label):
        image = (tf.cast(image, tf.float32) - mean) / std
        image = tf.image.random_flip_left_right(image)
        image = tf.pad(image, [[4, 4], [4, 4], [0, 0]])
        return tf.image.random_crop(image, (32, 32, 3)), label

    pictures = tf.data.Dataset.from_tensor_slices(pixels())
    pictures = pictures.shuffle(50_000).repeat().map(augmented, AUTOTUNE)
    return pictures.batch(arguments.batch_size, drop_remainder=True).prefetch(AUTOTUNE)


def jpeg_ours(arguments) -> tf.data.Dataset:
    """Return our batches of a folder of JPEGs."""
    data = kd.data.ImageFolder(
        arguments.folder, arguments.batch_size, seed=0, validation_fraction=0
    )
    data.setup("fit")
    return data.train_batches(0)


def jpeg_plain(arguments) -> tf.data.Dataset:
    """Decode, crop, resize, mirror and standardize a picture at a time."""
    mean = tf.constant(kd.data.ImageFolder.mean)
    std = tf.constant(kd.data.ImageFolder.std)
    everything = tf.constant([[[0.0, 0.0, 1.0, 1.0]]])

    def augmented(path):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        begin, size, _ = tf.image.sample_distorted_bounding_box(
            tf.shape(image), everything, area_range=(0.08, 1.0)
        )
        image = tf.image.resize(
            tf.slice(image, begin, size), (224, 224), "bicubic", antialias=True
        )
        image = tf.image.random_flip_left_right(image)
        return (image - mean) / std, 0

    paths = sorted(str(path) for path in Path(arguments.folder).rglob("*.jpg"))
    pictures = tf.data.Dataset.from_tensor_slices(paths).shuffle(len(paths)).repeat()
    batches = pictures.map(augmented, AUTOTUNE).batch(arguments.batch_size, True)
    return batches.prefetch(AUTOTUNE)


def main() -> None:
    """Make as many batches as the input asks for."""
    arguments = worker.parse(VARIANTS)
    imported = time.perf_counter()
    batches = iter(globals()[arguments.variant](arguments))
    worker.serve(
        lambda: next(batches),
        STARTED,
        imported,
        worker.versions(tensorflow=tf.__version__),
    )


if __name__ == "__main__":
    main()
