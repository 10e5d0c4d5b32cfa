"""What callbacks monitor is in the logs, or they would wait for it in vain."""

import warnings
from collections.abc import Iterable
from typing import NamedTuple

import keras

from keras_densenet.callbacks.checkpoint_names import fields_of
from keras_densenet.callbacks.model_checkpoint import ModelCheckpoint
from keras_densenet.callbacks.state import is_of_keras_or_ours
from keras_densenet.errors import MisconfigurationError, did_you_mean

ADDED = ("learning_rate", "images_per_second", "peak_memory_mb")  # by our monitors


class MonitoredMetrics(keras.callbacks.Callback):
    """Refuse a callback's `monitor` that no log has, as soon as that is known.

    A `ModelCheckpoint` that keeps the last checkpoint, too, is warned of instead.

    The metrics are known after the first step, and validation has the same ones. Where
    a callback of another kind or a model's own step might add some, they are known
    after the first epoch with a validation.

    Args:
        callbacks: Those of the training; it is called after them.
        validated: Whether there is anything to validate on.

    Raises:
        MisconfigurationError: From its hooks.
    """

    def __init__(
        self, callbacks: Iterable[keras.callbacks.Callback], validated: bool
    ) -> None:
        super().__init__()
        callbacks = list(callbacks)
        self._wanted = [pair for c in callbacks for pair in wanted_of(c)]
        self._validated = validated
        self._others = [c for c in callbacks if _may_add_metrics(c)]
        self._is_open = bool(self._wanted)

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Look for what is not validated, where nothing else can add it."""
        self._is_open = bool(self._wanted)
        if self._validated or not self._knows_all:
            return
        for wanted in self._wanted:
            if wanted.metric.startswith("val_"):
                wanted.is_missing(
                    " waits for a validation, and there is nothing to validate on: "
                    "hold pictures out, raise limit_val_batches, or monitor a metric "
                    "of the training, such as 'loss'."
                )

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Look at the metrics of the first step."""
        if self._is_open and self._knows_all:
            names = list(logs or {})
            names += [f"val_{name}" for name in names if self._validated]
            self._refuse_others([*names, *ADDED])

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Look at the metrics of the first epoch with a validation."""
        logs = logs or {}
        is_validated = any(name.startswith("val_") for name in logs)
        if self._is_open and (is_validated or not self._validated):
            self._refuse_others(logs)

    @property
    def _knows_all(self) -> bool:
        model, plain = type(self.model), keras.Model
        own_steps = (
            model.train_step is not plain.train_step
            or model.test_step is not plain.test_step
        )
        return not (self._others or own_steps)

    def _refuse_others(self, names: Iterable[str]) -> None:
        self._is_open = False
        for wanted in self._wanted:
            if wanted.metric not in names:
                hint = did_you_mean(wanted.metric, names)
                wanted.is_missing(
                    f": there is no metric {wanted.metric}.{hint} There are "
                    f"{', '.join(names)}."
                )


class Wanted(NamedTuple):
    """A metric that a callback asks for.

    Attributes:
        said: The argument that says it.
        metric: Its name.
        can_do_without: Whether the callback keeps the last checkpoint all the same: a
            training is not ended for a best one.
    """

    said: str
    metric: str
    can_do_without: bool = False

    def is_missing(self, why: str) -> None:
        """Refuse the callback, or warn that it will keep no best checkpoint."""
        if not self.can_do_without:
            raise MisconfigurationError(self.said + why)
        warnings.warn(
            f"{self.said}{why} The last checkpoint is kept, and no best one.",
            stacklevel=2,
        )


def wanted_of(callback: keras.callbacks.Callback) -> list[Wanted]:
    """Return the metrics that a callback asks for.

    >>> wanted_of(keras.callbacks.EarlyStopping("val_acc"))[0].said
    "EarlyStopping(monitor='val_acc')"
    """
    name, monitor = type(callback).__name__, monitor_of(callback)
    keeps_last = isinstance(callback, ModelCheckpoint) and callback.save_last
    said = f"{name}(monitor={monitor!r})"
    wanted = [Wanted(said, monitor, keeps_last)] if monitor else []
    if isinstance(callback, ModelCheckpoint) and callback.save_top_k:
        said = f"{name}(filename={callback.filename!r})"
        wanted += [Wanted(said, metric) for metric in fields_of(callback.filename)]
    return wanted


def monitor_of(callback: keras.callbacks.Callback) -> str | None:
    """Return the metric that a callback cannot do without, or None.

    `ModelCheckpoint`'s default is its best effort: without it there is no best.
    """
    monitor = getattr(callback, "monitor", None)
    if not isinstance(monitor, str):
        return None
    if isinstance(callback, ModelCheckpoint):
        is_default = monitor == ModelCheckpoint.DEFAULT_MONITOR
        return None if is_default or not callback.save_top_k else monitor
    if isinstance(callback, keras.callbacks.ModelCheckpoint):
        return monitor if callback.save_best_only else None
    return monitor


def _may_add_metrics(callback: keras.callbacks.Callback) -> bool:
    is_function = isinstance(callback, keras.callbacks.LambdaCallback)
    return is_function or not is_of_keras_or_ours(type(callback))
