"""What a trainer can be asked, by Lightning's names."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from keras_densenet.callbacks import ModelCheckpoint, ThroughputMonitor
from keras_densenet.callbacks.run import Run
from keras_densenet.devices import Devices
from keras_densenet.training.flags import Flags
from keras_densenet.training.plan import Plan

_FLAGS = frozenset(flag.name for flag in fields(Flags))


class LatestFit:
    """What a trainer knows of its flags, its devices and its latest fit.

    A flag is read as an attribute, `trainer.max_epochs`, and refuses to be set.

    Attributes:
        flags: What the user said, with short forms written out.
        hardware: The devices that the flags ask for.
    """

    flags: Flags
    hardware: Devices
    _run: Run | None = None
    _plan: Plan | None = None

    def __getattr__(self, name: str) -> Any:
        """Return a flag."""
        if name in _FLAGS:
            return getattr(self.flags, name)
        # Of these two Python makes its "Did you mean".
        raise AttributeError(
            f"{type(self).__name__} has no attribute {name!r}.", name=name, obj=self
        )

    def __dir__(self) -> list[str]:
        """Name the flags, too."""
        return [*super().__dir__(), *_FLAGS]

    def __setattr__(self, name: str, value: Any) -> None:
        """Set what is no flag."""
        if name in _FLAGS:
            raise AttributeError(
                f"The flags of a trainer cannot be changed after it was made, as what "
                f"was built by them would not follow. Make another trainer: "
                f"Trainer({name}={value!r})."
            )
        super().__setattr__(name, value)

    @property
    def model(self) -> keras.Model | None:
        """The model of the latest fit."""
        return self._run.model if self._run else None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or SIGTERM has ended the latest fit."""
        return bool(self._run and self._run.interruption.received)

    @property
    def global_step(self) -> int:
        """Steps taken, over all runs that resumed each other."""
        return self._run.step if self._run else 0

    @property
    def current_epoch(self) -> int:
        """Number of the epoch that is being trained, from 0."""
        return self._run.epoch if self._run else 0

    @property
    def callback_metrics(self) -> dict[str, float]:
        """Loss and metrics of the last whole epoch; also `logged_metrics`."""
        return as_numbers(self._run.logs) if self._run else {}

    logged_metrics = callback_metrics

    @property
    def num_training_batches(self) -> int:
        """Steps of an epoch of the latest fit."""
        return self._run.steps_per_epoch if self._run else 0

    @property
    def estimated_stepping_batches(self) -> float:
        """Steps of the whole training of the latest fit; infinity without an end."""
        return self._plan.total_steps if self._plan else 0

    @property
    def early_stopping_callback(self) -> keras.callbacks.EarlyStopping | None:
        """The first `keras.callbacks.EarlyStopping`, or None."""
        callbacks = self._run.callbacks if self._run else self.flags.callbacks
        stopping = keras.callbacks.EarlyStopping
        return next((c for c in callbacks or () if isinstance(c, stopping)), None)

    @property
    def checkpoint_callback(self) -> ModelCheckpoint | None:
        """The first `ModelCheckpoint` of the latest fit, or None."""
        return self._run.first(ModelCheckpoint) if self._run else None

    @property
    def checkpoint_callbacks(self) -> list[ModelCheckpoint]:
        """All `ModelCheckpoint`s of the latest fit."""
        callbacks = self._run.callbacks if self._run else []
        return [c for c in callbacks if isinstance(c, ModelCheckpoint)]

    @property
    def throughput(self) -> ThroughputMonitor | None:
        """The `ThroughputMonitor` of the latest fit, or None."""
        return self._run.first(ThroughputMonitor) if self._run else None

    @property
    def log_dir(self) -> Path | None:
        """Folder of the latest fit, or None."""
        return self._run.folder if self._run else None

    @property
    def should_stop(self) -> bool:
        """Whether the training is to end; set it to end it after this step."""
        return bool(self._run and self._run.model.stop_training)

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        if self._run:
            self._run.model.stop_training = value

    @property
    def strategy(self) -> tf.distribute.Strategy | None:
        """The `tf.distribute.Strategy`, or None for one device."""
        return self.hardware.strategy

    @property
    def num_devices(self) -> int:
        """Number of replicas, on all machines; also `world_size`."""
        return self.hardware.replicas

    world_size = num_devices

    @property
    def global_rank(self) -> int:
        """Number of this process among the workers: 0 where there is one."""
        return self.hardware.rank

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes the files."""
        return self.hardware.is_first


def as_numbers(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """Return metrics as Python's numbers, or lists of them.

    >>> as_numbers({"loss": np.float32(0.5), "f1": np.array([1.0, 0.0])})
    {'loss': 0.5, 'f1': [1.0, 0.0]}
    """
    return {name: np.asarray(value).tolist() for name, value in metrics.items()}
