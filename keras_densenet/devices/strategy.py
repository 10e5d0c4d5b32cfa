"""From the trainer's `strategy` and `devices` to a `tf.distribute.Strategy`."""

import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from keras_densenet.devices.cluster import multi_worker_strategy
from keras_densenet.errors import MisconfigurationError

ACCELERATORS = ("auto", "gpu", "cpu")
NAMES = ("auto", "none", "mirrored", "multi_worker_mirrored")
_ANY_SIZE = 2**30  # a batch takes what there is, up to this
ALIASES = {"single": "none", "single_device": "none", "ddp": "mirrored"}
_ON_EACH_MACHINE = (
    "Each machine trains on all its GPUs, or else on its CPU: CUDA_VISIBLE_DEVICES "
    "chooses among them."
)


def make_strategy(
    strategy: str | tf.distribute.Strategy,
    devices: str | int | Sequence[int],
    accelerator: str = "auto",
    num_nodes: int = 1,
) -> tf.distribute.Strategy | None:
    """Choose how to train on which devices.

    Args:
        strategy: "mirrored": `tf.distribute.MirroredStrategy`, one replica on each
            device; "multi_worker_mirrored":
            `tf.distribute.MultiWorkerMirroredStrategy`, on the machines that
            `TF_CONFIG` names; "none": one device and no strategy, which alone lets
            Keras compile with XLA; "auto": multi_worker_mirrored where `num_nodes` is
            above 1, mirrored where there are several GPUs, else none; or a
            `tf.distribute.Strategy`, taken as it is.
        devices: "auto" for all GPUs, or all logical CPUs where there is no GPU; a
            number of devices, -1 for all; or a list of their numbers.
        accelerator: "gpu" or "cpu": of which kind; "auto" for GPUs where there are.
        num_nodes: Number of machines, which `TF_CONFIG` must name as many of; 1 for
            this one, or as many as `TF_CONFIG` names.

    Returns:
        The strategy, or None for one device.

    Raises:
        MisconfigurationError: Unknown names, more devices than there are, or other
            machines than `TF_CONFIG` has.
    """
    if isinstance(strategy, tf.distribute.Strategy):
        return strategy
    name = _checked_name(strategy, num_nodes)
    if name == "multi_worker_mirrored":
        _refuse_a_choice(devices, accelerator)
        return multi_worker_strategy(num_nodes)
    chosen = _choose(devices, name, _kind(accelerator))
    if name == "none" and len(chosen) > 1:
        raise MisconfigurationError(
            f"strategy='none' trains on one device, and devices={devices!r} are "
            f"{len(chosen)}. Use strategy='mirrored', or devices=1."
        )
    if name == "mirrored" or len(chosen) > 1:
        return _mirrored(*chosen)
    if chosen[0] == f"{_kind('auto')}:0":
        return None  # what TensorFlow uses anyway
    return tf.distribute.OneDeviceStrategy(chosen[0])


def _checked_name(strategy: str, num_nodes: int) -> str:
    name = ALIASES.get(strategy, strategy)
    if name not in NAMES:
        raise MisconfigurationError(
            f"strategy must be one of {', '.join(map(repr, NAMES))}, or a "
            f"tf.distribute.Strategy. Received: strategy={strategy!r}"
        )
    if num_nodes > 1 and name == "auto":
        return "multi_worker_mirrored"
    if num_nodes > 1 and name != "multi_worker_mirrored":
        raise MisconfigurationError(
            f"strategy={strategy!r} trains on one machine, and num_nodes={num_nodes}. "
            "Use strategy='multi_worker_mirrored', or num_nodes=1."
        )
    return name


def _refuse_a_choice(devices: str | int | Sequence[int], accelerator: str) -> None:
    """Refuse to choose among a machine's devices: TensorFlow takes them all."""
    gpus = tf.config.list_physical_devices("GPU")
    there = {"auto", "gpu" if gpus else "cpu"}
    if devices != "auto" or accelerator not in there:
        raise MisconfigurationError(
            f"strategy='multi_worker_mirrored' needs devices='auto' and, as there are "
            f"{len(gpus)} GPUs here, accelerator in {sorted(there)}. "
            f"{_ON_EACH_MACHINE} Received: devices={devices!r}, "
            f"accelerator={accelerator!r}"
        )


@functools.cache
def _mirrored(*devices: str) -> tf.distribute.MirroredStrategy:
    # One for all trainers of a process: every strategy numbers its collective
    # operations from the same start, and a second one would meet the first one's.
    return tf.distribute.MirroredStrategy(devices)


def share_last_batches(dataset: tf.data.Dataset, replicas: int) -> tf.data.Dataset:
    """Let no replica go without pictures in the last batch of a dataset.

    A strategy cuts a batch of n pictures into shares of ceil(n / replicas), one after
    another, so that the last replicas may get none. Layers differ in what they make of
    an empty batch; oneDNN's convolution gives it a wrong shape, and the run fails. And
    Keras takes the first batch for one of equal shares.

    So the last few batches become two: one of equal shares, and one of which each
    replica has at least a picture, and at most as many as there are replicas.

    Args:
        dataset: Of batches.
        replicas: How many share a batch.

    Raises:
        MisconfigurationError: Too few pictures for that, or batches of a size that is
            no multiple of `replicas`.
    """
    steps = int(dataset.cardinality())
    if steps < 1:  # of unknown size
        return dataset
    size = _pictures(next(iter(dataset)))
    few = min(steps, 1 + math.ceil(replicas**2 / size))
    if steps > 1:
        refuse_unequal_shares(size, replicas)
    if few == steps:
        total = sum(_pictures(batch) for batch in dataset)
        if total % replicas == 0:
            return dataset
        _refuse_too_few(total, replicas)

    first = steps - few  # of the last few

    def pieces(number: Any, window: tf.data.Dataset) -> tf.data.Dataset:
        is_last = number == first

        def cut(*both: Any) -> tf.data.Dataset:
            n = tf.shape(tf.nest.flatten(both)[0], tf.int64)[0]
            over = n % replicas
            small = (over + replicas * (replicas - over)) * tf.cast(is_last, tf.int64)
            begins = tf.stack([0, n - small, n])
            elements = both if len(both) > 1 else both[0]
            return tf.data.Dataset.range(1 + tf.cast(is_last, tf.int64)).map(
                lambda part: tf.nest.map_structure(
                    lambda rows: rows[begins[part] : begins[part + 1]], elements
                )
            )

        batches = window.map(lambda number, batch: batch)
        return batches.rebatch(_ANY_SIZE).flat_map(cut)

    # In one pass: what `skip` leaves out would be decoded all the same.
    grouped = dataset.enumerate().group_by_window(
        lambda number, batch: tf.minimum(number, first),
        pieces,
        window_size_func=lambda number: tf.where(number == first, np.int64(few), 1),
    )
    return grouped.apply(tf.data.experimental.assert_cardinality(first + 2))


def _pictures(batch: Any) -> int:
    return int(tf.nest.flatten(batch)[0].shape[0])


def refuse_unequal_shares(size: int, replicas: int) -> None:
    """Refuse a global batch that replicas cannot share."""
    if size % replicas:
        raise MisconfigurationError(
            f"A global batch of {size} pictures cannot be shared by {replicas} "
            f"devices: use a multiple of {replicas}."
        )


def _refuse_too_few(total: int, replicas: int) -> None:
    """Refuse what leaves a replica without a picture, however it is cut."""
    over = total % replicas
    enough = over + replicas * (replicas - over) + replicas
    if total < enough:
        raise MisconfigurationError(
            f"{total} pictures to validate, test or predict on cannot be shared by "
            f"{replicas} devices: give a multiple of {replicas}, or {enough} or more; "
            "or do it with devices=1."
        )


def _kind(accelerator: str) -> str:
    """Give "GPU" or "CPU"."""
    if accelerator not in ACCELERATORS:
        raise MisconfigurationError(
            "accelerator must be 'auto', 'gpu' or 'cpu'. Received: "
            f"accelerator={accelerator!r}"
        )
    there_are_gpus = bool(tf.config.list_logical_devices("GPU"))
    if accelerator == "gpu" and not there_are_gpus:
        raise MisconfigurationError(
            "accelerator='gpu': TensorFlow finds no GPU. `pip install "
            "tensorflow[and-cuda]` brings what it needs, besides NVIDIA's driver; "
            "accelerator='auto' takes the CPU."
        )
    if accelerator == "auto":
        return "GPU" if there_are_gpus else "CPU"
    return accelerator.upper()


def _choose(devices: str | int | Sequence[int], name: str, kind: str) -> list[str]:
    """Give the names of the devices to use, such as "GPU:0"."""
    found = len(tf.config.list_logical_devices(kind))
    everything = name == "mirrored" or (name == "auto" and kind == "GPU")
    if devices == "auto":
        numbers = list(range(found if everything else 1))
    elif isinstance(devices, int):
        numbers = list(range(found if devices == -1 else devices))
    elif isinstance(devices, Sequence) and not isinstance(devices, str):
        numbers = list(devices)
    else:
        raise MisconfigurationError(
            "devices must be 'auto', a number of devices or a list of their numbers. "
            f"Received: devices={devices!r}"
        )
    if not numbers or not all(0 <= number < found for number in numbers):
        raise MisconfigurationError(
            f"devices={devices!r} asks for what is not there: this process has {found} "
            f"{kind} device(s), numbered from 0. (CPUs are split into logical devices "
            "with tf.config.set_logical_device_configuration before TensorFlow starts.)"
        )
    return [f"{kind}:{number}" for number in numbers]
