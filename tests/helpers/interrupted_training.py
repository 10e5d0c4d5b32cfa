"""Trains a small network with all that has a state; killed by test_resume.py.

    python tests/helpers/interrupted_training.py FOLDER [--resume] [--kill-at=PLACE] \
        [--mosaics | --volumes | --scenes]

Dropout and augmentation, early stopping with the best weights put back, a learning rate
that falls on plateaus, averages of the weights. Ends with `weights.npz` in FOLDER.
`--kill-at` ends it in the work that follows the last checkpoint: before or after the
best weights are put back, or where the curves are drawn. `--mosaics` has several labels
a picture, of which some are not known and those that are there count twice. `--volumes`
has three dimensions, and layers that are computed again. `--scenes` has masks.
"""

import os
import signal
import sys
from pathlib import Path

import keras
import numpy as np

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint
from keras_densenet.training import trainer as room
from keras_densenet.training.optimizer import TorchSGD


class Averaged(kd.ImageClassifier):
    """With averages of the weights, and a learning rate that callbacks may set."""

    def configure_optimizer(self, total_steps):
        """Return the paper's optimizer, with averages."""
        return TorchSGD(
            self.learning_rate, weight_decay=1e-4, use_ema=True, ema_momentum=0.9
        )


class Kill(keras.callbacks.Callback):
    """Kills this process when training ends."""

    def on_train_end(self, logs=None):
        """Kill it."""
        kill()


def kill(*arguments):
    """Kill this process, as a cluster does."""
    os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Train, from the start or from where it was."""
    folder = Path(sys.argv[1])
    place = next((a[10:] for a in sys.argv if a.startswith("--kill-at=")), "")
    if place == "curves":
        room.plot_curves = kill
    kd.seed_everything(1, deterministic=True)
    options = {"depth": 10, "growth_rate": 4, "dropout_rate": 0.2}
    data = kd.data.Digits(batch_size=64)
    if "--mosaics" in sys.argv:
        data = kd.data.DigitMosaics(batch_size=64, unknown=0.3)
        options["positive_weight"] = 2.0
    if "--volumes" in sys.argv:
        data = kd.data.DigitVolumes(64, crop=8, shift=2, mirror=(0, 2))
        options["memory_efficient"] = "full"
    network = kd.DenseNetBC
    if "--scenes" in sys.argv:
        network, options = kd.FCDenseNet, {"blocks": (1, 1, 1), "growth_rate": 4}
        data = kd.data.DigitScenes(folder.parent / "scenes", batch_size=64)
    module = Averaged(network, learning_rate=0.05, **options)
    stopping = keras.callbacks.EarlyStopping(
        "val_loss", patience=3, restore_best_weights=True
    )
    trainer = kd.Trainer(
        max_epochs=4,
        default_root_dir=folder,
        callbacks=[
            ModelCheckpoint(every_n_train_steps=3, save_top_k=2),
            keras.callbacks.ReduceLROnPlateau("loss", patience=1, min_delta=0.7),
            *[Kill()] * (place == "before"),
            stopping,
            *[Kill()] * (place == "after"),
        ],
        enable_progress_bar="--quiet" not in sys.argv,
        limit_train_batches=19,  # those of the digits, of which the mosaics have more
    )
    resume = "last" if "--resume" in sys.argv else None
    trainer.fit(module, data, ckpt_path=resume)
    weights = module.model.get_weights()
    optimizer = [v.numpy() for v in module.model.optimizer.variables]
    np.savez(folder / "weights.npz", *weights, *optimizer)


if __name__ == "__main__":
    main()
