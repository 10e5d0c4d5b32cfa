"""From the trainer's `strategy` and `devices` to a `tf.distribute.Strategy`."""

import functools
from collections.abc import Sequence

import tensorflow as tf

from keras_densenet.devices.cluster import multi_worker_strategy
from keras_densenet.errors import MisconfigurationError

ACCELERATORS = ("auto", "gpu", "cpu")
NAMES = ("auto", "none", "mirrored", "multi_worker_mirrored")
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


def _kind(accelerator: str) -> str:
    """Return "GPU" or "CPU"."""
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
    """Return the names of the devices to use, such as "GPU:0"."""
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
