"""A process that trains our DenseNet-BC on written batches; see `loss_curves.py`."""

import os
from pathlib import Path

import numpy as np
import worker
import written_batches

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import tensorflow as tf

import keras_densenet as kd

MODES = {"losses_plain": False, "losses_full": "full"}


def compiled(variant: str, depth: int, growth_rate: int, weights: Path) -> keras.Model:
    """Return the network with an `ImageClassifier`'s loss and optimizer.

    Its defaults are the paper's recipe; without milestones the rate stays.
    """
    module = kd.ImageClassifier(
        kd.DenseNetBC,
        milestones=(),
        depth=depth,
        growth_rate=growth_rate,
        memory_efficient=MODES[variant],
        weights=weights,
    )
    model = module.configure_model(kd.data.CIFAR10(batch_size=1))  # for its classes
    model.compile(module.configure_optimizer(total_steps=-1), module.configure_loss())
    model.optimizer.build(model.trainable_variables)  # so that Keras traces once
    return model


def main() -> None:
    """Train on the batches, as many steps as the input asks for."""
    arguments = worker.parse(list(MODES))
    model = compiled(
        arguments.variant,
        arguments.depth,
        arguments.growth_rate,
        Path(arguments.folder) / written_batches.WEIGHTS,
    )

    def train(images: np.ndarray, labels: np.ndarray) -> float:
        model.reset_metrics()  # or Keras returns the mean of all steps so far
        return float(model.train_on_batch(images, labels))

    written_batches.serve(
        arguments,
        train,
        lambda images: model.predict_on_batch(images).argmax(1),
        worker.versions(tensorflow=tf.__version__, keras=keras.__version__),
    )


if __name__ == "__main__":
    main()
