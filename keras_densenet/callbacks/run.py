"""A run: its callbacks, called in order, and where it is, so that it can go on."""

import copy
import inspect
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import keras
import numpy as np

from keras_densenet.callbacks.interruption import Interruption
from keras_densenet.checkpoint_file import RunState, preprocessing_of
from keras_densenet.data import DataModule

_PLAIN = (bool, int, float, str, type(None), np.generic)
_NOT_STATE = {"params": None, "validation_data": None}  # what Keras tells all


class Run(keras.callbacks.CallbackList):
    """The callbacks of one `model.fit`, with where it is.

    A run that is resumed in the middle of an epoch begins that epoch anew, but passes
    over the batches that are trained on already: no callback hears of them, and the
    training function (`skip_first`) reads nothing.

    Args:
        callbacks: In the order in which they are called.
        model: What is trained.
        data: Where the batches come from.
        epochs: Number of epochs in all.
        steps_per_epoch: Batches of an epoch.
        interruption: Tells when to save and end.
        state: Where to go on, or None to begin.

    Attributes:
        step: Batches trained on, over all epochs.
        epoch: Number of the epoch, from 0.
        logs: Loss and metrics of the last whole epoch.
        has_ended: Whether the callbacks were told of its end.
    """

    def __init__(
        self,
        callbacks: Iterable[keras.callbacks.Callback],
        *,
        model: keras.Model,
        data: DataModule,
        epochs: int,
        steps_per_epoch: int,
        interruption: Interruption,
        state: RunState | None = None,
    ) -> None:
        self.data = data
        self.steps_per_epoch = steps_per_epoch
        self.step = state.step if state else 0
        self.first_epoch, self.skipped = divmod(self.step, steps_per_epoch)
        self.interruption = interruption
        self._state = state
        self.epoch = self.first_epoch
        self.has_ended = False
        self.logs: dict[str, float] = {}
        self._begun: dict[str, dict] = {}
        super().__init__(
            list(callbacks),
            add_history=True,
            model=model,
            epochs=epochs,
            steps=steps_per_epoch,
            verbose=0,
        )

    # --- what Keras calls --------------------------------------------------------

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Let the callbacks begin, and then go on where they were."""
        super().on_train_begin(logs)
        self._begun = {name: _plain(c) for name, c in self._named_callbacks()}
        if self._state:
            _restore_seeds(self.model, self._state.arrays)
            _restore_replicas(self.model, self._state.arrays)
            self._restore_callbacks(self._state)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Tell of the end."""
        self.has_ended = True
        super().on_train_end(logs)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Note the epoch."""
        self.epoch = epoch
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Tell of a batch, unless it is passed over."""
        if not self._passed_over(batch):
            super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count; `batch` is the last one of an execution of one or more steps."""
        if self._passed_over(batch):
            return
        done = min(batch + 1, self.steps_per_epoch)
        self.step = self.epoch * self.steps_per_epoch + done
        if self._state:  # the first batch that is not passed over
            self._add_metrics(self._state.arrays)
            self._state = None
        super().on_train_batch_end(batch, logs)
        if done < self.steps_per_epoch:  # else after the epoch, with its validation
            self.interruption.end_if_asked()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Tell of an epoch."""
        super().on_epoch_end(epoch, logs)
        self.logs = logs or {}
        self.interruption.end_if_asked()

    @property
    def is_within_epoch(self) -> bool:
        """Whether some, but not all, batches of an epoch are trained on."""
        return self.step % self.steps_per_epoch > 0

    # --- what a checkpoint keeps -------------------------------------------------

    def state(self) -> RunState:
        """Give what this run needs to go on from here."""
        arrays = {f"seed/{i}": s.numpy() for i, s in enumerate(_seeds(self.model))}
        for i, variable in enumerate(self.model.metrics_variables):
            arrays[f"metric/{i}"] = keras.ops.convert_to_numpy(variable)
        arrays |= _replicas(self.model)
        callbacks = {}
        for name, callback in self._named_callbacks():
            callbacks[name], own = _callback_state(callback, self._begun.get(name, {}))
            arrays |= {f"callback/{name}/{key}": array for key, array in own.items()}
        limits = [c.is_over for c in self.callbacks if hasattr(c, "is_over")]
        return RunState(
            self.step,
            self.steps_per_epoch,
            self.data.state_dict(),
            callbacks,
            stopped=bool(self.model.stop_training) and not any(limits),
            preprocessing=preprocessing_of(self.data),
            arrays=arrays,
        )

    def _restore_callbacks(self, state: RunState) -> None:
        for name, callback in self._named_callbacks():
            prefix = f"callback/{name}/"
            arrays = {
                key.removeprefix(prefix): array
                for key, array in state.arrays.items()
                if key.startswith(prefix)
            }
            _restore_callback(callback, state.callbacks.get(name, {}), arrays)

    def _add_metrics(self, arrays: dict[str, np.ndarray]) -> None:
        """Add what the epoch's metrics were: all of Keras's are made of sums."""
        if not self.skipped:
            return
        for i, variable in enumerate(self.model.metrics_variables):
            if f"metric/{i}" in arrays:
                variable.assign(variable + arrays[f"metric/{i}"])

    def _named_callbacks(self) -> list[tuple[str, keras.callbacks.Callback]]:
        names: dict[str, int] = {}
        named = []
        for callback in self.callbacks:
            if isinstance(callback, keras.callbacks.History):
                continue  # fit returns what it has seen itself
            name = type(callback).__name__
            names[name] = names.get(name, 0) + 1
            named.append((f"{name}{names[name]}", callback))
        return named

    def _passed_over(self, batch: int) -> bool:
        return self.epoch == self.first_epoch and batch < self.skipped


@contextmanager
def skip_first(model: keras.Model, batches: int) -> Iterator[None]:
    """Let the model's training function do nothing for the first `batches` inside.

    They are trained on already: see `Run`.
    """
    if not batches:
        yield
        return
    model.make_train_function()
    train_function, steps = model.train_function, model.steps_per_execution
    left = -(-batches // steps)

    def rest(iterator: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            return {}
        model.train_function = train_function
        return train_function(iterator)

    model.train_function = rest
    try:
        yield
    finally:
        model.train_function = train_function


def _seeds(model: keras.Model) -> list:
    """Give the states of random layers: what is neither a weight nor a metric."""
    others = [*model.weights, *model.metrics_variables]
    known = {id(variable) for variable in others}
    return [v for v in model.non_trainable_variables if id(v) not in known]


def _restore_seeds(model: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    for i, seed in enumerate(_seeds(model)):
        seed.assign(arrays[f"seed/{i}"])


# Within an epoch each replica has moving statistics of its own, and the model's file
# has the first one's. Those of other machines are not at hand.


def _on_replicas(model: keras.Model) -> list[tuple[str, Any]]:
    """Give the weights that are not trained, on each replica but the first."""
    local = model.distribute_strategy.experimental_local_results
    return [
        (f"replica/{i}/{number}", value)
        for i, weight in enumerate(model.non_trainable_weights)
        for number, value in enumerate(local(weight.value))
        if number > 0
    ]


def _replicas(model: keras.Model) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in _on_replicas(model)}


def _restore_replicas(model: keras.Model, arrays: dict[str, np.ndarray]) -> None:
    for name, value in _on_replicas(model):
        if name in arrays:
            value.assign(arrays[name])


# Keras's callbacks keep their state in attributes, and forget it when training begins.
# What training has changed in them since then is what a checkpoint must keep. One with
# Lightning's `state_dict` and `load_state_dict` says itself what that is.


def _callback_state(
    callback: keras.callbacks.Callback, begun: dict
) -> tuple[dict, dict[str, np.ndarray]]:
    """Give a callback's numbers and texts, and its arrays, such as best weights."""
    if hasattr(callback, "state_dict"):
        return callback.state_dict(), {}
    plain = {
        key: value
        for key, value in _plain(callback).items()
        if key not in begun or begun[key] != value
    }
    arrays = {
        f"{key}/{i}": np.asarray(array)
        for key, value in vars(callback).items()
        if isinstance(value, list) and all(isinstance(a, np.ndarray) for a in value)
        for i, array in enumerate(value)
    }
    return plain, arrays


def _restore_callback(
    callback: keras.callbacks.Callback, plain: dict, arrays: dict[str, np.ndarray]
) -> None:
    if hasattr(callback, "load_state_dict"):
        callback.load_state_dict(plain)
        return
    vars(callback).update(plain)
    lists: dict[str, list] = {}
    for name, array in arrays.items():  # in the order in which they were kept
        lists.setdefault(name.rpartition("/")[0], []).append(array)
    vars(callback).update(lists)


def _is_plain(value: Any) -> bool:
    """Whether a value is a number, a text or None, or made of those."""
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    if isinstance(value, dict):
        return all(isinstance(k, str) and _is_plain(v) for k, v in value.items())
    return isinstance(value, _PLAIN)


def _plain(callback: keras.callbacks.Callback) -> dict[str, Any]:
    """Give the public attributes that are numbers, texts or None, or made of those.

    Not those that are named as arguments: they are what this run's user says, and
    Keras turns the sign of one (`min_delta`) when training begins.
    """
    arguments = dict(inspect.signature(type(callback)).parameters)
    return {
        key: value.item() if isinstance(value, np.generic) else copy.deepcopy(value)
        for key, value in vars(callback).items()
        if not (key.startswith("_") or key in arguments | _NOT_STATE)
        and _is_plain(value)
    }
