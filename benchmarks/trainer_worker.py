"""A process that trains DenseNet-BC with `Trainer.fit`; see `first_step.py`.

It reports when the first step of `fit` is done, and ends there.
"""

import time

STARTED = time.perf_counter()  # before what takes seconds to import

import os  # noqa: E402
import tempfile  # noqa: E402

import worker  # noqa: E402

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

import keras_densenet as kd  # noqa: E402
from keras_densenet.data.arrays import ArrayDataModule, Split  # noqa: E402

MODES = {"trainer_plain": False, "trainer_true": True, "trainer_full": "full"}


class Noise(ArrayDataModule):
    """A few batches of random pixels."""

    num_classes = 10
    class_names = tuple("0123456789")
    mean = (127.5,) * 3
    std = (70.0,) * 3

    def __init__(self, batch_size: int, image_size: int, batches: int = 4) -> None:
        self.input_shape = (image_size, image_size, 3)  # which the base asks for
        self.batches = batches
        super().__init__(batch_size, seed=0)

    def load_splits(self, stage: str) -> dict[str, Split]:
        """Draw the pictures."""
        del stage
        rng = np.random.default_rng(0)
        size = (self.batches * self.batch_size, *self.input_shape)
        images = rng.integers(0, 256, size, dtype=np.uint8)
        labels = rng.integers(0, 10, len(images))
        return {"train": Split(images, labels), "val": Split(images[:0], labels[:0])}


class FirstStep(keras.callbacks.Callback):
    """Notes when the first step is done, and stops the training."""

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Note the time, and stop."""
        self.done = time.perf_counter()
        self.model.stop_training = True


def main() -> None:
    """Train for one step."""
    arguments = worker.parse(list(MODES))
    imported = time.perf_counter()
    mode = MODES[arguments.variant]
    module = kd.ImageClassifier(
        kd.DenseNetBC,
        depth=arguments.depth,
        growth_rate=arguments.growth_rate,
        memory_efficient=mode,
    )
    first = FirstStep()
    with tempfile.TemporaryDirectory() as folder:
        trainer = kd.Trainer(
            1,
            callbacks=[first],
            default_root_dir=folder,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,  # the output is for JSON alone
        )
        begun = time.perf_counter()
        trainer.fit(module, Noise(arguments.batch_size, arguments.image_size))
    worker.say(
        imported_s=imported - STARTED,
        first_step_s=first.done - begun,
        versions=worker.versions(tensorflow=tf.__version__, keras=keras.__version__),
    )


if __name__ == "__main__":
    main()
