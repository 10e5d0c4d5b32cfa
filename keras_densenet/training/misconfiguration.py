"""What a trainer refuses before anything is built."""

from typing import TYPE_CHECKING

import keras

from keras_densenet.callbacks import ModelCheckpoint, Timer
from keras_densenet.devices.cluster import is_multi_worker
from keras_densenet.devices.precision import policy_name
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.callback_order import the_checkpoint
from keras_densenet.training.limits import check_limit

if TYPE_CHECKING:
    from keras_densenet.training.trainer import Trainer

_AT_LEAST = {
    "max_epochs": 1,
    "check_val_every_n_epoch": 1,
    "num_sanity_val_steps": 0,
    "log_every_n_steps": 1,
    "num_nodes": 1,
    "accumulate_grad_batches": 1,
    "steps_per_execution": 1,
    "fast_dev_run": 0,
}
_LIMITS = (
    "limit_train_batches",
    "limit_val_batches",
    "limit_test_batches",
    "limit_predict_batches",
    "overfit_batches",
)


def refuse_misconfiguration(trainer: "Trainer") -> None:
    """Raise `MisconfigurationError` for flags that cannot work, alone or together."""
    for check in _CHECKS:
        check(trainer)


def _numbers(trainer: "Trainer") -> None:
    for flag, least in _AT_LEAST.items():
        value = getattr(trainer, flag)
        if value is not None and value < least:
            raise MisconfigurationError(
                f"{flag} must be {least} or more. Received: {flag}={value}"
            )
    for flag in _LIMITS:
        check_limit(getattr(trainer, flag), flag)
    if trainer.limit_train_batches == 0:
        raise MisconfigurationError(
            "limit_train_batches=0 leaves nothing to train on. To validate alone, call "
            "trainer.validate."
        )
    if trainer.max_steps != -1 and trainer.max_steps < 1:
        raise MisconfigurationError(
            "max_steps must be 1 or more, or -1 for no limit. Received: "
            f"max_steps={trainer.max_steps}"
        )
    if trainer.max_time is not None:
        Timer(trainer.max_time)
    clip = trainer.gradient_clip_val
    if clip is not None and clip <= 0:
        raise MisconfigurationError(
            "gradient_clip_val must be above 0, or None for no clipping. Received: "
            f"gradient_clip_val={clip}"
        )


def _choices(trainer: "Trainer") -> None:
    if trainer.gradient_clip_algorithm not in ("norm", "value"):
        raise MisconfigurationError(
            "gradient_clip_algorithm must be 'norm' or 'value'. Received: "
            f"gradient_clip_algorithm={trainer.gradient_clip_algorithm!r}"
        )
    if trainer.jit_compile not in ("auto", True, False):
        raise MisconfigurationError(
            "jit_compile must be 'auto', True or False. Received: "
            f"jit_compile={trainer.jit_compile!r}"
        )
    if trainer.run_eagerly and trainer.jit_compile is True:
        raise MisconfigurationError(
            "run_eagerly=True runs without a graph, and jit_compile=True compiles one: "
            "choose one of the two."
        )
    if trainer.run_eagerly and trainer.steps_per_execution > 1:
        raise MisconfigurationError(
            "run_eagerly=True takes one step at a time, and steps_per_execution="
            f"{trainer.steps_per_execution}: choose one of the two."
        )


def _replicas(trainer: "Trainer") -> None:
    """Refuse what Keras gets wrong on several replicas."""
    if trainer.num_devices == 1:
        return
    cure = "Use devices=1 (strategy='none')"
    if trainer.accumulate_grad_batches > 1:
        raise MisconfigurationError(
            f"accumulate_grad_batches={trainer.accumulate_grad_batches} fails in Keras "
            f"on {trainer.num_devices} devices: its accumulators cannot be updated "
            f"under a strategy's condition. {cure}, or a larger batch_size."
        )
    if trainer.gradient_clip_val is not None:
        raise MisconfigurationError(
            f"gradient_clip_val={trainer.gradient_clip_val} would be wrong on "
            f"{trainer.num_devices} devices: Keras clips each replica's gradients "
            "before they are added up, so that the bound is up to "
            f"{trainer.num_devices} times as large. {cure}."
        )
    if trainer.jit_compile is True:
        raise MisconfigurationError(
            "jit_compile=True does not work reliably in Keras on several devices. "
            f"Leave jit_compile='auto'. {cure} to compile."
        )


def _workers(trainer: "Trainer") -> None:
    """Refuse what each worker would do at another time, or wait for forever."""
    if not is_multi_worker(trainer.strategy):
        return
    timers = [c for c in trainer.callbacks if isinstance(c, Timer)]
    if trainer.max_time is not None or timers:
        raise MisconfigurationError(
            f"max_time={trainer.max_time!r} (Timer) looks at each machine's clock, and "
            "they would end at different steps, waiting for each other. Use max_steps."
        )
    if trainer.run_eagerly:
        raise MisconfigurationError(
            "run_eagerly=True does not work on several machines: replicas would run "
            "one after the other and wait for each other. Debug with one: "
            "strategy='none'."
        )


def _float16(trainer: "Trainer") -> None:
    if policy_name(trainer.precision) != "mixed_float16":
        return
    if trainer.num_devices > 1:
        raise MisconfigurationError(
            "precision='16-mixed' cannot train on several devices: Keras looks for "
            "overflows in the first replica's gradients only, and those of the "
            "others would reach the weights. Use precision='bf16-mixed', which "
            "needs no loss scaling, or devices=1."
        )
    if trainer.accumulate_grad_batches > 1:
        raise MisconfigurationError(
            "precision='16-mixed' and accumulate_grad_batches do not go together: an "
            "overflow would drop one batch of several. Use precision='bf16-mixed', "
            "which needs no loss scaling."
        )


def _checkpoints(trainer: "Trainer") -> None:
    given = [c for c in trainer.callbacks if isinstance(c, ModelCheckpoint)]
    if given and not trainer.enable_checkpointing and not trainer.fast_dev_run:
        raise MisconfigurationError(
            "enable_checkpointing=False, and callbacks has a ModelCheckpoint: take "
            "one of the two away."
        )
    the_checkpoint(given, trainer.enable_checkpointing)


def _loggers(trainer: "Trainer") -> None:
    logger = trainer.logger
    given = logger if isinstance(logger, list | tuple) else [logger]
    for callback in [*given, *trainer.callbacks]:
        if not isinstance(callback, bool | keras.callbacks.Callback):
            raise MisconfigurationError(
                "callbacks, and logger where it is not True or False, must be "
                f"keras.callbacks.Callbacks. Received: {callback!r}"
            )
    if trainer.profiler not in (None, "tensorboard"):
        raise MisconfigurationError(
            "profiler must be 'tensorboard' or None. Received: "
            f"profiler={trainer.profiler!r}"
        )
    if trainer.profiler and logger is not True:
        raise MisconfigurationError(
            "profiler='tensorboard' writes to the run's TensorBoard events: it needs "
            "logger=True. With a TensorBoard of your own say profile_batch= there."
        )


COMPILED = {  # flags that become arguments of the optimizer and of model.compile
    "accumulate_grad_batches": 1,
    "gradient_clip_val": None,
    "jit_compile": "auto",
    "steps_per_execution": 1,
    "run_eagerly": False,
    "sync_batchnorm": False,
}


def refuse_compiled(trainer: "Trainer") -> None:
    """Refuse flags that come too late for a model that is compiled already."""
    for flag, default in COMPILED.items():
        value = getattr(trainer, flag)
        if value != default:
            raise MisconfigurationError(
                f"Trainer({flag}={value!r}) has no effect on a model that you compiled "
                "yourself: say it where you make and compile it, or train an "
                "ImageClassifier."
            )


def _anomaly(trainer: "Trainer") -> None:
    if trainer.detect_anomaly and trainer.jit_compile is True:
        raise MisconfigurationError(
            "detect_anomaly=True looks at each operation, and jit_compile=True melts "
            "them into one: choose one of the two."
        )


_CHECKS = (
    _numbers,
    _choices,
    _replicas,
    _workers,
    _float16,
    _checkpoints,
    _loggers,
    _anomaly,
)
