"""Which callbacks a fit has, in the order in which they must be called."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import keras

from keras_densenet.callbacks.limits import MaxSteps, StopOnNaN, Timer
from keras_densenet.callbacks.loggers import CSVLogger, TensorBoard
from keras_densenet.callbacks.model_checkpoint import ModelCheckpoint
from keras_densenet.callbacks.monitors import (
    LearningRateMonitor,
    ThroughputMonitor,
)
from keras_densenet.callbacks.moving_statistics import (
    AverageMovingStatistics,
)
from keras_densenet.callbacks.progress_bar import ProgressBar
from keras_densenet.errors import MisconfigurationError

if TYPE_CHECKING:
    from keras_densenet.training.trainer import Trainer

Callback: TypeAlias = keras.callbacks.Callback

PROFILED = (10, 14)  # steps, after those that build and warm up


def listed(callbacks: Any) -> list[Callback]:
    """Give a list, of None and of one callback, too."""
    if isinstance(callbacks, keras.callbacks.Callback):
        return [callbacks]
    return list(callbacks or ())


def the_checkpoint(
    callbacks: Sequence[Callback], enabled: bool
) -> ModelCheckpoint | None:
    """Give the one `ModelCheckpoint` of a fit: yours, or a new one.

    Raises:
        MisconfigurationError: There are two.
    """
    given = [c for c in callbacks if isinstance(c, ModelCheckpoint)]
    if len(given) > 1:
        raise MisconfigurationError(
            f"callbacks has {len(given)} ModelCheckpoints, the trainer's and those of "
            "configure_callbacks together, and the last checkpoint can be one only: "
            "leave one."
        )
    if not enabled:
        return None
    return given[0] if given else ModelCheckpoint()


def callbacks_in_order(
    trainer: "Trainer",
    mine: Sequence[Callback],
    throughput: ThroughputMonitor,
    step: int,
) -> list[Callback]:
    """Give a fit's callbacks.

        what may end the training, or adds to the logs
        yours; those that swap weights, and then Keras's checkpoints, last of them
        what makes the replicas agree
        progress bar, loggers
        the checkpoint, after all that changes the model

    Args:
        trainer: Whose fit it is; its folder and its checkpoint are there.
        mine: The user's.
        throughput: What measures the speed.
        step: Batches trained on before.
    """
    callbacks: list[Callback] = [StopOnNaN()]
    if trainer.max_steps != -1:
        callbacks.append(MaxSteps(trainer.max_steps, step))
    if trainer.max_time is not None:
        callbacks.append(Timer(trainer.max_time))
    callbacks += [LearningRateMonitor(), throughput]
    callbacks += sorted(_checked(mine), key=_place)
    if trainer.num_devices > 1:
        callbacks.append(AverageMovingStatistics(trainer.strategy))
    if trainer.enable_progress_bar:
        callbacks.append(ProgressBar(throughput, trainer.console))
    if trainer.is_global_zero:
        callbacks += _loggers(trainer, step)
    if trainer.checkpoint_callback:
        callbacks.append(trainer.checkpoint_callback)
    return callbacks


def _checked(mine: Sequence[Callback]) -> list[Callback]:
    """Refuse what Keras has for runs that end early, and leave the checkpoint out."""
    for callback in mine:
        if isinstance(callback, keras.callbacks.BackupAndRestore):
            raise MisconfigurationError(
                "BackupAndRestore would restore an epoch's beginning over what the "
                "trainer restores: leave it out, and go on with ckpt_path='last'."
            )
        if isinstance(callback, keras.callbacks.SwapEMAWeights) and (
            callback.swap_on_epoch
        ):
            raise MisconfigurationError(
                "SwapEMAWeights(swap_on_epoch=True) would have checkpoints save the "
                "averages as the weights, and a resumed run go on from those. Without "
                "it the averages are what is validated, and the model at the end."
            )
    return [c for c in mine if not isinstance(c, ModelCheckpoint)]


def _place(callback: Callback) -> int:
    if isinstance(callback, keras.callbacks.ModelCheckpoint):
        return 2
    return int(isinstance(callback, keras.callbacks.SwapEMAWeights))


def _loggers(trainer: "Trainer", step: int) -> list[Callback]:
    """Give the loggers: the user's, or Keras's in the run's folder."""
    if not isinstance(trainer.logger, bool):
        logger = trainer.logger
        given = list(logger) if isinstance(logger, list | tuple) else [logger]
        for each in given:
            if isinstance(each, keras.callbacks.CSVLogger) and step and not each.append:
                raise MisconfigurationError(
                    "This run goes on, and CSVLogger(append=False) would write over "
                    f"the rows that {each.filename} has: say append=True."
                )
        return given
    folder = trainer.log_dir
    if not trainer.logger or folder is None:
        return []
    return [CSVLogger(folder / "metrics.csv"), _tensorboard(trainer, folder, step)]


def _tensorboard(trainer: "Trainer", folder: Path, step: int) -> TensorBoard:
    profiled = tuple(step + number for number in PROFILED) if trainer.profiler else 0
    return TensorBoard(
        folder,
        step,
        update_freq=trainer.log_every_n_steps,
        profile_batch=profiled,
    )
