"""What a trainer refuses before anything is built."""

from dataclasses import fields
from numbers import Integral, Real
from typing import Any

import keras
import numpy as np

from keras_densenet.callbacks import ModelCheckpoint, Timer
from keras_densenet.devices import Devices
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.callback_order import keeper_of_the_last
from keras_densenet.training.flags import Flags
from keras_densenet.training.limits import check_limit

_AT_LEAST = {
    "max_epochs": 1,
    "min_epochs": 1,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    "num_nodes": 1,
    "accumulate_grad_batches": 1,
    "steps_per_execution": 1,
    "fast_dev_run": 0,
}
# Of these a number with a fraction is one, too.
_REALS = ("gradient_clip_val",)
_SWITCHES = [flag.name for flag in fields(Flags) if flag.type is bool]
_LIMITS = (
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
    "overfit_batches",
)


def refuse_shares_of_pictures(method: str, would: str) -> None:
    """Refuse, on several machines, what needs all pictures in one process."""
    raise MisconfigurationError(
        f"{method} on several machines would {would} share of the pictures alone. "
        f"{method.capitalize()} in one process, without TF_CONFIG and with "
        "strategy='auto', num_nodes=1 and the path of a checkpoint, ckpt_path."
    )


def refuse_other_backends() -> None:
    """Refuse to train on Keras's JAX and PyTorch backends."""
    if keras.backend.backend() != "tensorflow":
        raise MisconfigurationError(
            "Trainer needs the TensorFlow backend. On Keras's "
            f"{keras.backend.backend()} backend use model.fit, or set "
            "KERAS_BACKEND=tensorflow before Python starts."
        )


def refuse_misconfiguration(flags: Flags, devices: Devices) -> None:
    """Raise `MisconfigurationError` for flags that cannot work, alone or together.

    Args:
        flags: Resolved.
        devices: What they ask for.
    """
    for check in (
        _kinds,
        _switches,
        _numbers,
        _epochs,
        _choices,
        _checkpoints,
        _loggers,
        _anomaly,
    ):
        check(flags)
    for check_devices in (_replicas, _workers, _float16):
        check_devices(flags, devices)


def _kinds(flags: Flags) -> None:
    """Refuse what is no number where one is needed, such as the text "3"."""
    for flag in (*_AT_LEAST, "max_steps", *_REALS):
        value = getattr(flags, flag)
        kind = Real if flag in _REALS else Integral
        if value is None and getattr(Flags, flag) is None:
            continue  # the default
        if not isinstance(value, kind):
            number = "a number" if flag in _REALS else "a whole number"
            raise MisconfigurationError(
                f"{flag} must be {number}. Received: {flag}={value!r}"
            )


def _switches(flags: Flags) -> None:
    """Refuse what is neither on nor off, such as Lightning's deterministic="warn"."""
    for flag in _SWITCHES:
        value = getattr(flags, flag)
        if not isinstance(value, bool | np.bool_):
            raise MisconfigurationError(
                f"{flag} must be True or False. Received: {flag}={value!r}"
            )


def _numbers(flags: Flags) -> None:
    for flag, least in _AT_LEAST.items():
        value = getattr(flags, flag)
        is_endless = flag == "max_epochs" and value == -1
        if value is not None and value < least and not is_endless:
            raise MisconfigurationError(
                f"{flag} must be {least} or more. Received: {flag}={value}"
            )
    for flag in _LIMITS:
        check_limit(getattr(flags, flag), flag)
    if flags.limit_train_batches == 0:
        raise MisconfigurationError(
            "limit_train_batches=0 leaves nothing to train on. To validate alone, call "
            "trainer.validate."
        )
    if flags.max_steps != -1 and flags.max_steps < 1:
        raise MisconfigurationError(
            "max_steps must be 1 or more, or -1 for no limit. Received: "
            f"max_steps={flags.max_steps}"
        )
    if flags.max_time is not None:
        Timer(flags.max_time)
    clip = flags.gradient_clip_val
    if clip is not None and clip <= 0:
        raise MisconfigurationError(
            "gradient_clip_val must be above 0, or None for no clipping. Received: "
            f"gradient_clip_val={clip}"
        )


def _epochs(flags: Flags) -> None:
    """Refuse numbers of epochs, and shares of one, that contradict each other."""
    least, most = flags.min_epochs, flags.max_epochs
    if least is not None and most not in (None, -1) and least > most:
        raise MisconfigurationError(
            f"min_epochs={least} is above max_epochs={most}: raise max_epochs, or "
            "leave min_epochs out."
        )
    interval = flags.val_check_interval
    is_share = isinstance(interval, float) and 0 < interval <= 1
    is_number = type(interval) is int and interval >= 1
    if not (is_share or is_number):
        raise MisconfigurationError(
            "val_check_interval is a share of an epoch, a float in (0.0, 1.0], or a "
            f"number of batches, an int of 1 or more. Received: {interval!r}"
        )
    others = {"check_val_every_n_epoch": 1, "overfit_batches": 0}
    for flag, default in others.items():
        if interval != 1.0 or is_number:
            _refuse_both(flags, "val_check_interval", flag, default)


def _refuse_both(flags: Flags, one: str, other: str, default: Any) -> None:
    value = getattr(flags, other)
    if value != default:
        raise MisconfigurationError(
            f"{one}={getattr(flags, one)} and {other}={value} both say when is "
            "validated, and on what: choose one of the two."
        )


def _choices(flags: Flags) -> None:
    if flags.gradient_clip_algorithm not in ("norm", "value"):
        raise MisconfigurationError(
            "gradient_clip_algorithm must be 'norm' or 'value'. Received: "
            f"gradient_clip_algorithm={flags.gradient_clip_algorithm!r}"
        )
    if flags.jit_compile not in ("auto", True, False):
        raise MisconfigurationError(
            "jit_compile must be 'auto', True or False. Received: "
            f"jit_compile={flags.jit_compile!r}"
        )
    if flags.run_eagerly and flags.jit_compile is True:
        raise MisconfigurationError(
            "run_eagerly=True runs without a graph, and jit_compile=True compiles one: "
            "choose one of the two."
        )
    if flags.run_eagerly and flags.steps_per_execution > 1:
        raise MisconfigurationError(
            "run_eagerly=True takes one step at a time, and steps_per_execution="
            f"{flags.steps_per_execution}: choose one of the two."
        )


def _replicas(flags: Flags, devices: Devices) -> None:
    """Refuse what Keras gets wrong on several replicas."""
    if devices.replicas > 1 and flags.jit_compile is True:
        raise MisconfigurationError(
            "jit_compile=True does not work reliably in Keras on several devices. "
            "Leave jit_compile='auto'. Use devices=1 (strategy='none') to compile."
        )


def _workers(flags: Flags, devices: Devices) -> None:
    """Refuse what each worker would do at another time, or wait for forever."""
    if not devices.cluster:
        return
    timers = [c for c in flags.callbacks or () if isinstance(c, Timer)]
    if flags.max_time is not None or timers:
        raise MisconfigurationError(
            f"max_time={flags.max_time!r} (Timer) goes by each machine's clock, so "
            "that the machines would end at different steps and wait for each other. "
            "Use max_steps."
        )
    if flags.run_eagerly:
        raise MisconfigurationError(
            "run_eagerly=True does not work on several machines: replicas would run "
            "one after the other and wait for each other. Debug with one: "
            "strategy='none'."
        )


def _float16(flags: Flags, devices: Devices) -> None:
    if devices.policy == "mixed_float16" and flags.accumulate_grad_batches > 1:
        raise MisconfigurationError(
            "precision='16-mixed' and accumulate_grad_batches do not go together: an "
            "overflow would drop one of the batches that are added up. Use "
            "precision='bf16-mixed', which needs no loss scaling."
        )


def _checkpoints(flags: Flags) -> None:
    given = [c for c in flags.callbacks or () if isinstance(c, ModelCheckpoint)]
    if given and not flags.enable_checkpointing and not flags.fast_dev_run:
        raise MisconfigurationError(
            "enable_checkpointing=False, and callbacks has a ModelCheckpoint: take "
            "one of the two away."
        )
    keeper_of_the_last(given)


def _loggers(flags: Flags) -> None:
    logger = flags.logger
    given = logger if isinstance(logger, list | tuple) else [logger]
    for callback in [*given, *(flags.callbacks or ())]:
        if not isinstance(callback, bool | keras.callbacks.Callback):
            hint = ""
            if isinstance(callback, type):
                hint = f". Make one of it: {callback.__name__}(...)"
            raise MisconfigurationError(
                "callbacks, and logger where it is not True or False, must be "
                f"keras.callbacks.Callbacks. Received: {callback!r}{hint}"
            )
    if flags.profiler not in (None, "tensorboard"):
        raise MisconfigurationError(
            "profiler must be 'tensorboard' or None. Received: "
            f"profiler={flags.profiler!r}"
        )
    if flags.profiler and logger is not True:
        raise MisconfigurationError(
            "profiler='tensorboard' writes to the run's TensorBoard events: it needs "
            "logger=True. With a TensorBoard of your own say profile_batch= there."
        )


def _anomaly(flags: Flags) -> None:
    if flags.detect_anomaly and flags.jit_compile is True:
        raise MisconfigurationError(
            "detect_anomaly=True looks at each operation, and jit_compile=True melts "
            "them into one: choose one of the two."
        )


COMPILED = {  # flags that become arguments of the optimizer and of model.compile
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "jit_compile": "auto",
    "steps_per_execution": 1,
    "run_eagerly": False,
    "sync_batchnorm": False,
}


def refuse_compiled(flags: Flags) -> None:
    """Refuse flags that come too late for a model that is compiled already."""
    for flag, default in COMPILED.items():
        value = getattr(flags, flag)
        if value != default:
            raise MisconfigurationError(
                f"Trainer({flag}={value!r}) has no effect on a model that you compiled "
                "yourself: say it where you make and compile it, or train an "
                "ImageClassifier."
            )
