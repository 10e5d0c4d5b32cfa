"""What a tuner refuses before it tries anything."""

import os
from typing import Any

import keras
import tensorflow as tf

from keras_densenet.data import DataModule
from keras_densenet.data.labeled_arrays import is_pair
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.arguments import data_of, module_of
from keras_densenet.training.trainer import Trainer

LEAST_RATES = 14  # LRFinder.suggestion skips 11 of them, and needs 3


def refuse_kinds(method: str, module: Any, data: Any) -> None:
    """Refuse what is no module, what is no data module, and a compiled model."""
    module = module_of(method, module, None)
    if is_pair(data) or isinstance(data, tf.data.Dataset):
        raise MisconfigurationError(
            f"{method} needs a data module that stays for the training: make "
            "data = kd.data.Arrays(images, labels) or kd.data.Datasets(train), and "
            "give it to both."
        )
    data_of(method, datamodule=data, dataloaders=None)
    if isinstance(module, keras.Model):
        raise MisconfigurationError(
            "Each try builds a network of its own, and a keras.Model is built and "
            "compiled already. Pass ImageClassifier(f), where f() makes the network."
        )


def refuse_workers(trainer: Trainer) -> None:
    """Refuse several workers."""
    several = tf.distribute.MultiWorkerMirroredStrategy
    if trainer.num_nodes > 1 or isinstance(trainer.strategy, several):
        raise MisconfigurationError(
            "lr_find runs in one process, and this trainer has several workers "
            f"(num_nodes={trainer.num_nodes}). Find the rate on one machine with the "
            "same global batch, and pass it to ImageClassifier(learning_rate=...)."
        )


def refuse_replicas(trainer: Trainer) -> None:
    """Refuse several devices."""
    if trainer.num_devices > 1 or trainer.num_nodes > 1:
        raise MisconfigurationError(
            "scale_batch_size tries batches on one device, and this trainer has "
            f"{trainer.num_devices} on {trainer.num_nodes} machine(s). Use a "
            "Trainer(devices=1), and multiply the result by the number of devices."
        )


def refuse_full_gpus() -> None:
    """Refuse GPUs that this process takes whole: a try would find no memory there."""
    if os.environ.get("TF_FORCE_GPU_ALLOW_GROWTH") == "true":
        return
    gpus = tf.config.list_physical_devices("GPU")
    if not all(tf.config.experimental.get_memory_growth(gpu) for gpu in gpus):
        raise MisconfigurationError(
            "TensorFlow takes a GPU's whole memory for this process, and each batch "
            "size is tried in a process of its own, which would find none. Set "
            "TF_FORCE_GPU_ALLOW_GROWTH=true in the environment, before Python starts."
        )


def refuse_no_attribute(data: DataModule, batch_arg_name: str) -> None:
    """Refuse data whose batch size has another name."""
    if not hasattr(data, batch_arg_name):
        raise MisconfigurationError(
            f"{type(data).__name__} has no attribute {batch_arg_name}: name the one "
            "that is its batch size, scale_batch_size(batch_arg_name=...)."
        )


def refuse_rates(
    min_lr: float,
    max_lr: float,
    num_training: int,
    mode: str,
    early_stop_threshold: float | None,
) -> None:
    """Refuse rates that do not rise, or are too few."""
    _refuse_mode(mode, "exponential", "linear")
    if not 0 < min_lr < max_lr:
        raise MisconfigurationError(
            "The rates rise from min_lr, above 0, to a larger max_lr. Received: "
            f"min_lr={min_lr}, max_lr={max_lr}"
        )
    _refuse_below(LEAST_RATES, num_training=num_training)
    if early_stop_threshold is not None and early_stop_threshold <= 1:
        raise MisconfigurationError(
            "early_stop_threshold must be above 1, or None to try all rates. Received: "
            f"early_stop_threshold={early_stop_threshold}"
        )


def refuse_sizes(
    mode: str,
    steps_per_trial: int,
    init_val: int,
    max_trials: int,
    memory_gb: float | None,
) -> None:
    """Refuse a search that cannot begin."""
    _refuse_mode(mode, "power", "binsearch")
    _refuse_below(
        1, steps_per_trial=steps_per_trial, init_val=init_val, max_trials=max_trials
    )
    if memory_gb is not None and memory_gb <= 0:
        raise MisconfigurationError(
            "memory_gb must be above 0, or None for 80 % of the memory that is "
            f"available. Received: memory_gb={memory_gb}"
        )


def _refuse_mode(mode: str, *known: str) -> None:
    if mode not in known:
        names = " or ".join(repr(name) for name in known)
        raise MisconfigurationError(f"mode must be {names}. Received: mode={mode!r}")


def _refuse_below(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise MisconfigurationError(
                f"{name} must be {least} or more. Received: {name}={value}"
            )
