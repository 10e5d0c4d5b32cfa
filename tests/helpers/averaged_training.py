"""A small training with all that a checkpoint has to keep: dropout, EMA, callbacks.

    STOP_AFTER=7 python tests/helpers/averaged_training.py FOLDER

It gets SIGTERM after that many steps, 0 for none, and is saved there.
`tests/helpers/old_run` is what an earlier version wrote after 7 steps, in the middle of
the second epoch, and `finished.keras` in it what the same version went on to.
"""

import os
import signal
import sys

import keras
from crash import SignalAt

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint


class AveragedClassifier(kd.ImageClassifier):
    """Averages its weights over the steps (EMA); STOP_AFTER steps it gets SIGTERM."""

    def configure_optimizer(self, total_steps):
        optimizer = super().configure_optimizer(total_steps)
        optimizer.use_ema = True
        optimizer.ema_momentum = 0.9
        return optimizer

    def configure_callbacks(self):
        steps = int(os.environ.get("STOP_AFTER", "0"))
        return [SignalAt(steps, signal.SIGTERM)] if steps else []


class Counting(keras.callbacks.Callback):
    """Has a state of its own, which goes on only if a checkpoint keeps it."""

    def __init__(self):
        super().__init__()
        self.batches = 0
        self.losses = []

    def on_train_batch_end(self, batch, logs=None):
        self.batches += 1
        self.losses.append(float(logs["loss"]))


def main() -> None:
    """Train, up to the end or to the signal."""
    kd.seed_everything(1, deterministic=True)
    callbacks = [
        ModelCheckpoint(save_top_k=2, every_n_train_steps=3),
        keras.callbacks.EarlyStopping("val_loss", patience=3),
        keras.callbacks.SwapEMAWeights(),
        Counting(),
    ]
    trainer = kd.Trainer(
        max_epochs=3,
        default_root_dir=sys.argv[1],
        callbacks=callbacks,
        deterministic=True,
    )
    module = AveragedClassifier(
        kd.DenseNetBC, depth=10, growth_rate=2, dropout_rate=0.2, learning_rate=0.05
    )
    trainer.fit(module, kd.data.Digits(batch_size=250))


if __name__ == "__main__":
    import averaged_training  # so that config.yaml has an import path, not __main__

    averaged_training.main()
