"""What `Trainer.report` writes: a page about what a network answers, and how it is."""

from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from keras_densenet.analysis.profile import profile
from keras_densenet.checkpoint_file import LAST
from keras_densenet.data import DataModule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.flags import Flags
from keras_densenet.training.limits import take
from keras_densenet.training.run_folder import CHECKPOINTS

HELD_OUT = {"test": "test", "validate": "validation"}  # stages, and their pictures
MOST_PICTURES = 32  # whose gradients are taken,
MOST_MEMORY = 1e9  # in bytes, or as many as have room in this


def held_out(flags: Flags, data: DataModule) -> tuple[str, tf.data.Dataset]:
    """Return "test" and the test pictures; if there are none, those to validate on.

    Args:
        flags: Of the trainer.
        data: Set up for the test.

    Raises:
        MisconfigurationError: There are neither, or several views of each picture.
    """
    stage, dataset = "test", None
    if data.has_pictures("test"):
        dataset = take(data.test_dataset(), flags.limit_test_batches)
    if dataset is None or int(dataset.cardinality()) == 0:
        data.setup("validate")
        stage, dataset = "validate", take(data.val_dataset(), flags.limit_val_batches)
    if dataset is None or int(dataset.cardinality()) == 0:
        raise MisconfigurationError(
            "There is nothing to report on: the data module has neither test nor "
            "validation pictures, or the trainer's limits are 0 batches."
        )
    shape = dataset.element_spec[0].shape
    if shape.rank != 1 + len(data.input_shape):
        raise MisconfigurationError(
            f"report needs batches of pictures, {(None, *data.input_shape)}. Received: "
            f"{type(data).__name__} with {shape}. Where the data are ten views of each "
            "picture, give the data that they are views of, and the network of one."
        )
    return stage, dataset


def command_to_report(run: Path | None) -> str:
    """Return the command that reports on a run of several machines in one process."""
    folder = run or Path("runs/...")
    return (
        "A report is written in one process, without TF_CONFIG: python -m "
        f"keras_densenet report --config {folder / 'config.yaml'} --ckpt_path "
        f"{folder / CHECKPOINTS / LAST} --trainer.strategy auto --trainer.num_nodes 1"
    )


def some_pictures(model: keras.Model, dataset: tf.data.Dataset) -> tuple[Any, Any]:
    """Return few enough pictures and labels for gradients to be taken of them."""
    try:
        room = profile(model).training_bytes(False)
    except ValueError:  # nobody knows
        room = 0
    # Each reader's own copies of the maps come on top: about as much again.
    count = min(MOST_PICTURES, int(MOST_MEMORY // max(1, 2 * room)))
    images, labels, *_ = next(iter(dataset))
    return images[: max(2, count)], labels[: max(2, count)]
