"""A run: its callbacks, called in order, and where it is, so that it can go on."""

import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from keras_densenet.callbacks.interruption import Interruption
from keras_densenet.callbacks.limits import Limit
from keras_densenet.callbacks.state import marks_of, restore, state_of
from keras_densenet.checkpoint_file import RunState
from keras_densenet.data import DataModule
from keras_densenet.data.crops import fit_of
from keras_densenet.data.pictures import size_of
from keras_densenet.decisions import decisions_of

Kind = TypeVar("Kind")


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
        folder: Where it writes, or None for nowhere.
        state: Where to go on, or None to begin.
        origin: What checkpoints keep of the run and of its data.
        ends_an_epoch: Whether the end of an epoch is all that is left to do.

    Attributes:
        model: What is trained.
        folder: Where it writes, or None.
        epochs: Number of epochs in all.
        steps_per_epoch: Batches of an epoch.
        step: Batches trained on, over all epochs.
        epoch: Number of the epoch, from 0.
        logs: Loss and metrics of the last whole epoch.
        ends_an_epoch: Whether the end of an epoch is all that is left to do.
        is_open: Whether the callbacks were told of its beginning, and not of its end.
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
        folder: Path | None = None,
        state: RunState | None = None,
        origin: dict[str, Any] | None = None,
        ends_an_epoch: bool = False,
    ) -> None:
        self.data = data
        self.origin = origin or {}
        self.ends_an_epoch = ends_an_epoch
        self.folder = folder
        self.epochs = epochs
        self.steps_per_epoch = steps_per_epoch
        self.step = state.step if state else 0
        self.first_epoch, self.skipped = divmod(self.step, steps_per_epoch)
        self.interruption = interruption
        self._state = state
        self.epoch = self.first_epoch
        self.is_open = False
        self._epoch_ended = True
        self.logs: dict[str, float] = {}
        self._begun: dict[str, dict] = {}
        self._has_told = False  # of what cannot be kept
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
        self.is_open = True
        super().on_train_begin(logs)
        for limit in self._limits:
            limit.begin_at(self.step, self.steps_per_epoch)
        named = named_callbacks(self.callbacks)
        self._begun = {name: marks_of(callback) for name, callback in named}
        if self._state:
            _restore_seeds(self.model, self._state.seeds)
            _restore_replicas(self.model, self._state.replicas)
            self._restore_callbacks(self._state)

    def on_train_end(self, logs: dict | None = None) -> None:
        """Tell of the end."""
        self.is_open = False
        super().on_train_end(logs)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Note the epoch; Keras has just begun its metrics anew."""
        self.epoch, self._epoch_ended = epoch, False
        if self._state and self.skipped:
            _restore_metrics(self.model, self._state)
        self._state = None
        super().on_epoch_begin(epoch, logs)

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Tell of a batch, unless it is passed over."""
        if not self._passed_over(batch):
            super().on_train_batch_begin(batch, logs)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Count; `batch` is the last one of an execution of one or more steps."""
        if self._passed_over(batch):
            if self.ends_an_epoch and batch + 1 >= self.skipped:
                self.model.stop_training = True  # after the end of this epoch
            return
        done = min(batch + 1, self.steps_per_epoch)
        self.step = self.epoch * self.steps_per_epoch + done
        super().on_train_batch_end(batch, logs)
        if done < self.steps_per_epoch:  # else after the epoch, with its validation
            self.interruption.end_if_asked()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Tell of an epoch."""
        self._epoch_ended = True
        super().on_epoch_end(epoch, logs)
        self.logs = logs or {}
        self.interruption.end_if_asked()

    @property
    def is_within_epoch(self) -> bool:
        """Whether some, but not all, batches of an epoch are trained on."""
        return self.step % self.steps_per_epoch > 0

    def first(self, kind: type[Kind]) -> Kind | None:
        """Return the first callback of a class, or None."""
        return next((c for c in self.callbacks if isinstance(c, kind)), None)

    # --- what a checkpoint keeps -------------------------------------------------

    def state(self) -> RunState:
        """Return what this run needs to go on from here.

        All workers must call it: together they add up the metrics.
        """
        metrics = self.model.metrics_variables
        plain: dict[str, dict] = {}
        arrays: dict[str, dict[str, np.ndarray]] = {}
        lost: list[str] = []
        for name, callback in named_callbacks(self.callbacks):
            begun = self._begun.get(name, {})
            plain[name], arrays[name], not_kept = state_of(callback, begun)
            lost += not_kept
        self._tell_of_lost(lost)
        limits = [limit.is_over for limit in self._limits]
        decisions = decisions_of(self.model)
        return RunState(
            self.step,
            self.steps_per_epoch,
            self.data.state_dict(),
            callbacks=plain,
            stopped=bool(self.model.stop_training) and not any(limits),
            preprocessing=preprocessing_of(self.data),
            epoch_ended=self._epoch_ended,
            decisions=decisions.to_json() if decisions else {},
            origin=self.origin,
            seeds=[seed.numpy() for seed in _seeds(self.model)],
            metrics=[keras.ops.convert_to_numpy(metric) for metric in metrics],
            replicas=_replicas(self.model) | _metrics_of_replicas(self.model),
            callback_arrays=arrays,
        )

    def _tell_of_lost(self, names: list[str]) -> None:
        """Warn, once, of what no checkpoint keeps."""
        if not names or self._has_told:
            return
        self._has_told = True
        warnings.warn(
            f"Training changes {', '.join(names)}, which a checkpoint cannot keep, so "
            "that a run that goes on begins with what on_train_begin sets. Numbers, "
            "texts, NumPy arrays, and lists, tuples, sets, deques and dictionaries of "
            "those are kept; for anything else give the callback state_dict() and "
            "load_state_dict(state).",
            stacklevel=2,
        )

    def _restore_callbacks(self, state: RunState) -> None:
        for name, callback in named_callbacks(self.callbacks):
            arrays = state.callback_arrays.get(name, {})
            restore(callback, state.callbacks.get(name, {}), arrays)

    @property
    def _limits(self) -> list[Limit]:
        return [c for c in self.callbacks if isinstance(c, Limit)]

    def _passed_over(self, batch: int) -> bool:
        return self.epoch == self.first_epoch and batch < self.skipped


def named_callbacks(
    callbacks: Iterable[keras.callbacks.Callback],
) -> list[tuple[str, keras.callbacks.Callback]]:
    """Return the names that checkpoints have for callbacks, such as "Timer1"."""
    names: dict[str, int] = {}
    named = []
    for callback in callbacks:
        if isinstance(callback, keras.callbacks.History):
            continue  # fit returns what it has seen itself
        name = type(callback).__name__
        names[name] = names.get(name, 0) + 1
        named.append((f"{name}{names[name]}", callback))
    return named


def preprocessing_of(data: DataModule) -> dict[str, Any]:
    """Return how pictures are prepared; empty where the data do not say.

    That is what they are standardized with, a number for each channel, and how they
    become the network's size: None of signals and volumes, which have it.
    """
    if not (hasattr(data, "mean") and hasattr(data, "std")):
        return {}
    return {
        "mean": list(map(float, data.mean)),
        "std": list(map(float, data.std)),
        "fit": fit_of(data.fit, size_of(data)),
    }


@contextmanager
def skip_first(run: Run) -> Iterator[None]:
    """Let the model's training function do nothing for the batches to pass over.

    They are trained on already: see `Run`.
    """
    model, batches = run.model, run.skipped
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
            return model.get_metrics_result() if run.ends_an_epoch else {}
        model.train_function = train_function
        return train_function(iterator)

    model.train_function = rest
    try:
        yield
    finally:
        model.train_function = train_function


def build_metrics(model: keras.Model, batch: Any) -> None:
    """Make a model's metrics, which Keras makes in the first step on one device.

    Args:
        model: It is compiled.
        batch: The `element_spec` of what it is trained on.
    """
    model._symbolic_build(data_batch=batch)


def _seeds(model: keras.Model) -> list:
    """Return the states of random layers: what is neither a weight nor a metric."""
    others = [*model.weights, *model.metrics_variables]
    known = {id(variable) for variable in others}
    return [v for v in model.non_trainable_variables if id(v) not in known]


def _restore_seeds(model: keras.Model, kept: list[np.ndarray]) -> None:
    # A plain .keras file, written after an epoch, has kept none of them.
    for seed, before in zip(_seeds(model), kept, strict=False):
        seed.assign(before)


# Within an epoch each replica has moving statistics of its own, and the model's file
# has the first one's. Those of other machines are not at hand.


def _on_replicas(model: keras.Model) -> list[tuple[str, Any]]:
    """Return the weights that are not trained, on each replica but the first."""
    local = model.distribute_strategy.experimental_local_results
    return [
        (f"{i}/{number}", value)
        for i, weight in enumerate(model.non_trainable_weights)
        for number, value in enumerate(local(weight.value))
        if number > 0
    ]


def _replicas(model: keras.Model) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in _on_replicas(model)}


def _restore_replicas(model: keras.Model, kept: dict[str, np.ndarray]) -> None:
    for name, value in _on_replicas(model):
        if name in kept:
            value.assign(kept[name])


# A metric is not always a sum, and what replicas have of it may not be parted again.


def _metrics_of_replicas(model: keras.Model) -> dict[str, np.ndarray]:
    """Return what each replica, on all machines, has of each of the epoch's metrics.

    All workers must call it.
    """
    strategy = model.distribute_strategy
    if strategy.num_replicas_in_sync == 1:
        return {}
    kept: dict[str, np.ndarray] = {}
    for number, variable in enumerate(model.metrics_variables):
        rows = _of_all_replicas(strategy, variable.value)
        kept |= {_metric_of(replica, number): row for replica, row in enumerate(rows)}
    return kept


def _of_all_replicas(strategy: Any, variable: Any) -> np.ndarray:
    """Return the value of each replica, `(replicas, ...)`; `gather` is slow."""
    mine = iter(strategy.experimental_local_results(variable))

    def in_its_row(context: Any) -> Any:
        value = next(mine).numpy()
        rows = np.zeros((strategy.num_replicas_in_sync, *value.shape), value.dtype)
        rows[context.replica_id_in_sync_group] = value
        return keras.ops.convert_to_tensor(rows)

    rows = strategy.experimental_distribute_values_from_function(in_its_row)
    return strategy.reduce("SUM", rows, axis=None).numpy()


def _metric_of(replica: int, number: int) -> str:
    return f"{replica}/metric/{number}"


def _restore_metrics(model: keras.Model, state: RunState) -> None:
    """Let the epoch's metrics be what they were."""
    variables = model.metrics_variables
    if [v.shape for v in variables] != [m.shape for m in state.metrics]:
        warnings.warn(
            f"The checkpoint has {len(state.metrics)} variables of metrics, and this "
            f"model has {len(variables)}, or some of other shapes. What is shown of "
            "this epoch therefore counts its batches from number "
            f"{state.step % state.steps_per_epoch + 1} on alone.",
            stacklevel=2,
        )
        return
    for number, (variable, value) in enumerate(
        zip(variables, state.metrics, strict=True)
    ):
        if not _restore_on_replicas(model, variable, number, state.replicas):
            variable.assign(value)


def _restore_on_replicas(
    model: keras.Model, variable: Any, number: int, kept: dict[str, np.ndarray]
) -> bool:
    """Give each replica of a metric its own value, where there are as many as then."""
    strategy = model.distribute_strategy
    count = strategy.num_replicas_in_sync
    names = [_metric_of(replica, number) for replica in range(count)]
    is_more = _metric_of(count, number) in kept
    if count == 1 or is_more or not all(name in kept for name in names):
        return False
    values = strategy.experimental_distribute_values_from_function(
        lambda context: kept[names[context.replica_id_in_sync_group]]
    )
    for own, value in zip(
        strategy.experimental_local_results(variable.value),
        strategy.experimental_local_results(values),
        strict=True,
    ):
        own.assign(value)
    return True
