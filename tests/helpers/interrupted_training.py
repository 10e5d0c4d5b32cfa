"""Trains a small network with dropout and augmentation; killed by test_resume.py.

    python tests/helpers/interrupted_training.py FOLDER [--resume]

Ends with a file `weights.npz` in FOLDER.
"""

import sys
from pathlib import Path

import keras
import numpy as np

import keras_densenet as kd
from keras_densenet.callbacks import ModelCheckpoint


def main() -> None:
    """Train, from the start or from where it was."""
    folder = Path(sys.argv[1])
    kd.seed_everything(1, deterministic=True)
    data = kd.data.Digits(batch_size=64)
    module = kd.ImageClassifier(
        kd.DenseNetBC, depth=10, growth_rate=4, dropout_rate=0.2, learning_rate=0.05
    )
    trainer = kd.Trainer(
        max_epochs=4,
        default_root_dir=folder,
        callbacks=[
            ModelCheckpoint(every_n_train_steps=3, save_top_k=2),
            keras.callbacks.EarlyStopping("val_loss", patience=3),
        ],
        enable_progress_bar="--quiet" not in sys.argv,
    )
    resume = "last" if "--resume" in sys.argv else None
    trainer.fit(module, data, ckpt_path=resume)
    weights = module.model.get_weights()
    optimizer = [v.numpy() for v in module.model.optimizer.variables]
    np.savez(folder / "weights.npz", *weights, *optimizer)


if __name__ == "__main__":
    main()
