"""The trainer: PyTorch Lightning's, ending in one plain `model.fit`."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any, TypeAlias

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console
from rich.table import Table

from keras_densenet.data import DataModule
from keras_densenet.export import savedmodel
from keras_densenet.training.callbacks import (
    AverageMovingStatistics,
    ModelCheckpoint,
    ProgressBar,
)
from keras_densenet.training.checkpoints import load_checkpoint, next_version
from keras_densenet.training.errors import MisconfigurationError
from keras_densenet.training.image_classifier import ImageClassifier
from keras_densenet.training.precision import dtype_policy, policy_name
from keras_densenet.training.strategy import halve_last_batches, make_strategy

Module: TypeAlias = ImageClassifier | keras.Model


class Trainer:
    """Train, validate, test, predict and export.

    `fit(module, datamodule=data)` does this, in this order:

        data.prepare_data(), data.setup("fit")
        with strategy and precision:
            model = module.configure_model(data)
            model.compile(module.configure_optimizer(...), ...loss, ...metrics)
        load the checkpoint, if one is given
        model.fit(data.train_dataset(), validation_data=data.val_dataset(), ...)
        data.teardown("fit")

    A run writes to `<default_root_dir>/kd_logs/<model>/version_<N>/`: `metrics.csv`
    and `checkpoints/`.

    Args:
        max_epochs: Epochs to train, over all runs that resume each other;
            `model.fit(epochs=max_epochs)`. Needed by `fit` alone.
        devices: "auto", a number of devices, or a list of their numbers.
        strategy: "auto", "none", "mirrored" or a `tf.distribute.Strategy`; see
            `make_strategy`.
        precision: "32-true", "bf16-mixed", "16-mixed", "64-true", or the name of a
            Keras policy; `keras.config.set_dtype_policy(...)`.
        callbacks: Keras callbacks, `model.fit(callbacks=[*callbacks, ...])`.
        default_root_dir: Folder that holds `kd_logs`; by default the current one.
        fast_dev_run: Whether to run one batch of everything, and keep nothing.
        enable_checkpointing: Whether to keep the last and the best checkpoint.
        enable_progress_bar: Whether to print a line an epoch, and a bar in a terminal.

    Attributes:
        strategy: The `tf.distribute.Strategy`, or None for one device.
        num_devices: Number of replicas.
        log_dir: Folder of the latest `fit`, or None.
        checkpoint_callback: The `ModelCheckpoint` of the latest `fit`, or None.
        progress_bar: The `ProgressBar` of the latest `fit`, with its images/s, or None.

    Raises:
        MisconfigurationError: What cannot work, before anything is built.
    """

    def __init__(
        self,
        max_epochs: int | None = None,
        *,
        devices: str | int | Sequence[int] = "auto",
        strategy: str | tf.distribute.Strategy = "auto",
        precision: str = "32-true",
        callbacks: Sequence[keras.callbacks.Callback] = (),
        default_root_dir: str | os.PathLike = ".",
        fast_dev_run: bool = False,
        enable_checkpointing: bool = True,
        enable_progress_bar: bool = True,
    ) -> None:
        if keras.backend.backend() != "tensorflow":
            raise MisconfigurationError(
                "Trainer needs the TensorFlow backend. On Keras's "
                f"{keras.backend.backend()} backend use model.fit, or set "
                "KERAS_BACKEND=tensorflow before Python starts."
            )
        if max_epochs is not None and max_epochs < 1:
            raise MisconfigurationError(
                f"max_epochs must be 1 or more. Received: max_epochs={max_epochs}"
            )
        self.max_epochs = 1 if fast_dev_run else max_epochs
        self.precision = precision
        self.callbacks = list(callbacks)
        self.default_root_dir = Path(default_root_dir)
        self.fast_dev_run = fast_dev_run
        self.enable_checkpointing = enable_checkpointing and not fast_dev_run
        self.enable_progress_bar = enable_progress_bar
        self.strategy = make_strategy(strategy, devices)
        self.num_devices = self.strategy.num_replicas_in_sync if self.strategy else 1
        self.log_dir: Path | None = None
        self.checkpoint_callback: ModelCheckpoint | None = None
        self.progress_bar: ProgressBar | None = None
        self._policy = policy_name(precision)
        self._data: DataModule | None = None
        self._console = Console()
        self._refuse_float16_replicas()

    # --- what users call ---------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make and compile your own `keras.Model` inside: strategy and precision.

        It becomes `with strategy.scope():` and `keras.config.set_dtype_policy(...)`.
        """
        strategy = self.strategy.scope() if self.strategy else nullcontext()
        with strategy, dtype_policy(self._policy):
            yield

    def fit(
        self, module: Module, datamodule: DataModule, ckpt_path: str | None = None
    ) -> keras.callbacks.History:
        """Train up to `max_epochs`.

        Args:
            module: An `ImageClassifier`, or a model made and compiled in `scope()`.
            datamodule: Training and validation pictures.
            ckpt_path: Where to go on: a checkpoint's path, "last" for the latest run's
                last checkpoint, "best" for this trainer's best, or None to begin.

        Returns:
            Keras's history of losses and metrics, one entry an epoch.
        """
        if self.max_epochs is None:
            raise MisconfigurationError("fit needs Trainer(max_epochs=...).")
        self._read(datamodule, "fit")
        train = self._limit(datamodule.train_dataset())
        val = self._limit(self._shared_out(datamodule.val_dataset()))
        steps = self._checked_steps(train)
        model = self._compiled(module, datamodule, self.max_epochs * steps)
        first_epoch = self._resume(model, ckpt_path, steps)
        self._announce(model, train)
        callbacks = self._callbacks(model, train)
        try:
            history = model.fit(
                train,
                validation_data=val,
                epochs=self.max_epochs,
                initial_epoch=first_epoch,
                callbacks=callbacks,
                shuffle=False,
                verbose=0,
            )
        finally:
            _close(callbacks)
        datamodule.teardown("fit")
        self._report_checkpoints()
        return history

    def validate(
        self, module: Module, datamodule: DataModule, ckpt_path: str | None = None
    ) -> dict[str, float]:
        """Give loss and metrics on the validation pictures, and print them."""
        return self._evaluate(module, datamodule, ckpt_path, "validate")

    def test(
        self, module: Module, datamodule: DataModule, ckpt_path: str | None = None
    ) -> dict[str, float]:
        """Give loss and metrics on the test pictures, and print them."""
        return self._evaluate(module, datamodule, ckpt_path, "test")

    def predict(
        self, module: Module, datamodule: DataModule, ckpt_path: str | None = None
    ) -> np.ndarray:
        """Give class probabilities `(N, classes)` of the pictures to predict."""
        self._read(datamodule, "predict")
        model = self._ready(module, datamodule, ckpt_path)
        dataset = self._shared_out(datamodule.predict_dataset())
        answer = model.predict(self._limit(dataset), verbose=0)
        datamodule.teardown("predict")
        return answer

    def export(
        self,
        module: Module,
        path: str | os.PathLike,
        *,
        datamodule: DataModule | None = None,
        ckpt_path: str | None = None,
    ) -> Path:
        """Write a SavedModel for TensorFlow Serving, which takes raw RGB pictures.

        Args:
            module: What was trained.
            path: Such as "saved_models/cifar10"; the version is added: `<path>/1`.
            datamodule: Gives mean and standard deviation of the channels, and the names
                of the classes; by default the one trained or tested on last.
            ckpt_path: As in `fit`; None exports the model as it is.

        Returns:
            The folder of the new version.
        """
        data = datamodule or self._data
        if data is None:
            raise MisconfigurationError(
                "export needs the data module that the model was trained on: its mean "
                "and standard deviation go into the graph. Pass datamodule=."
            )
        model = self._ready(module, data, ckpt_path)
        version = savedmodel(
            model, path, mean=data.mean, std=data.std, class_names=data.class_names
        )
        self._console.print(f"Exported {version}", soft_wrap=True)
        return version

    # --- one step each -----------------------------------------------------------

    def _refuse_float16_replicas(self) -> None:
        if self._policy == "mixed_float16" and self.num_devices > 1:
            raise MisconfigurationError(
                "precision='16-mixed' cannot train on several devices: Keras looks for "
                "overflows in the first replica's gradients only, and those of the "
                "others would reach the weights. Use precision='bf16-mixed', which "
                "needs no loss scaling, or devices=1."
            )

    def _read(self, data: DataModule, stage: str) -> None:
        data.prepare_data()
        data.setup(stage)
        self._data = data

    def _limit(self, dataset: Any) -> Any:
        return dataset.take(1) if dataset is not None and self.fast_dev_run else dataset

    def _shared_out(self, dataset: Any) -> Any:
        if dataset is None or self.num_devices == 1:
            return dataset
        return halve_last_batches(dataset, self.num_devices)

    def _checked_steps(self, train: tf.data.Dataset) -> int:
        """Give the steps of an epoch, refusing what cannot be trained on."""
        steps = int(train.cardinality())
        if steps < 1:
            raise MisconfigurationError(
                "train_dataset() must know how many batches it has: end it with "
                ".apply(tf.data.experimental.assert_cardinality(n)). "
                f"Its cardinality is {steps}."
            )
        if _global_batch(train) % self.num_devices:
            raise MisconfigurationError(
                f"A global batch of {_global_batch(train)} pictures cannot be shared "
                f"by {self.num_devices} devices: use a multiple of {self.num_devices}."
            )
        return steps

    def _compiled(self, module: Module, data: DataModule, steps: int) -> keras.Model:
        """Give the model, built and compiled inside the strategy."""
        if isinstance(module, keras.Model):
            model = self._made_here(module)
            with self.scope():
                return _with_optimizer(model)
        with self.scope():
            before, model = module.model, module.configure_model(data)
            if before is not None:
                model.set_weights(before.get_weights())
            model.compile(
                optimizer=module.configure_optimizer(steps),
                loss=module.configure_loss(),
                metrics=module.configure_metrics(),
            )
            module.model = _with_optimizer(model)
        return model

    def _made_here(self, model: keras.Model) -> keras.Model:
        if not self._is_mine(model):
            raise MisconfigurationError(
                "The model was made outside this trainer's strategy and would train on "
                "one device. Make and compile it inside `with trainer.scope():`."
            )
        return model

    def _ready(
        self, module: Module, data: DataModule, ckpt_path: str | None
    ) -> keras.Model:
        """Give the model for anything but training."""
        if isinstance(module, keras.Model):
            model = self._made_here(module)
        elif module.model is None or not self._is_mine(module.model):
            if module.model is None and ckpt_path is None:
                raise MisconfigurationError(
                    "The module is not trained yet: call fit first, or pass ckpt_path=."
                )
            model = self._compiled(module, data, steps=1)
        else:
            model = module.model
        if ckpt_path is not None:
            load_checkpoint(model, self._checkpoint(model, ckpt_path))
        return model

    def _is_mine(self, model: keras.Model) -> bool:
        return model.distribute_strategy is (
            self.strategy or tf.distribute.get_strategy()
        )

    def _evaluate(
        self, module: Module, data: DataModule, ckpt_path: str | None, stage: str
    ) -> dict[str, float]:
        self._read(data, stage)
        dataset = data.test_dataset() if stage == "test" else data.val_dataset()
        if dataset is None:
            raise MisconfigurationError("The data module holds out no validation data.")
        model = self._ready(module, data, ckpt_path)
        _refuse_uncompiled(model)
        dataset = self._limit(self._shared_out(dataset))
        metrics = model.evaluate(dataset, verbose=0, return_dict=True)
        data.teardown(stage)
        table = Table("metric", stage)
        for name, value in metrics.items():
            table.add_row(name, f"{value:.4f}")
        self._console.print(table)
        return metrics

    def _resume(self, model: keras.Model, ckpt_path: str | None, steps: int) -> int:
        """Load a checkpoint, if one is given, and give the epochs it has seen."""
        if ckpt_path is None:
            return 0
        path = self._checkpoint(model, ckpt_path)
        load_checkpoint(model, path)
        epochs, rest = divmod(int(model.optimizer.iterations), steps)
        if rest:
            raise MisconfigurationError(
                f"{path} was written after {int(model.optimizer.iterations)} steps, "
                f"which are no whole epochs of {steps} steps: resume with the data and "
                "the batch_size that it was trained with."
            )
        if self.max_epochs and epochs >= self.max_epochs:
            raise MisconfigurationError(
                f"{path} has seen {epochs} epochs, and max_epochs={self.max_epochs}: "
                "nothing is left to train. Raise max_epochs to go on."
            )
        self._console.print(f"Resuming after epoch {epochs} from {path}")
        return epochs

    def _checkpoint(self, model: keras.Model, ckpt_path: str) -> Path:
        """Turn "best", "last" or a path into a path."""
        if ckpt_path == "best":
            if self.checkpoint_callback is None:
                raise MisconfigurationError(
                    "ckpt_path='best' needs a fit by this trainer first."
                )
            if not self.checkpoint_callback.best_model_path:
                raise MisconfigurationError(
                    "ckpt_path='best' needs validation data and a metric named "
                    "'accuracy' to tell which epoch was best. Use ckpt_path='last'."
                )
            return Path(self.checkpoint_callback.best_model_path)
        if ckpt_path == "last":
            runs = self._runs(model).glob("version_*/checkpoints/last.keras")
            latest = max(runs, key=lambda path: path.stat().st_mtime, default=None)
            if latest is None:
                raise MisconfigurationError(
                    f"ckpt_path='last' found no checkpoint in {self._runs(model)}."
                )
            return latest
        return Path(ckpt_path)

    def _runs(self, model: keras.Model) -> Path:
        return self.default_root_dir / "kd_logs" / model.name

    def _callbacks(self, model: keras.Model, train: tf.data.Dataset) -> list:
        callbacks = list(self.callbacks)
        if self.num_devices > 1:
            callbacks.append(AverageMovingStatistics(self.strategy))
        self.progress_bar = None
        if self.enable_progress_bar:
            self.progress_bar = ProgressBar(_global_batch(train), self._console)
            callbacks.append(self.progress_bar)
        if self.fast_dev_run:
            return callbacks
        self.log_dir = next_version(self._runs(model))
        callbacks.append(keras.callbacks.CSVLogger(self.log_dir / "metrics.csv"))
        if self.enable_checkpointing:
            self.checkpoint_callback = ModelCheckpoint(self.log_dir / "checkpoints")
            callbacks.append(
                self.checkpoint_callback
            )  # after what may change the model
        return callbacks

    def _announce(self, model: keras.Model, train: tf.data.Dataset) -> None:
        if not self.enable_progress_bar:
            return
        parameters = sum(np.prod(w.shape) for w in model.trainable_weights)
        kind = type(self.strategy).__name__ if self.strategy else "one device"
        if self.fast_dev_run:
            self._console.print(
                "Running in fast_dev_run mode: one batch of all, nothing is kept."
            )
        self._console.print(
            f"{model.name}: {parameters:,} trainable parameters. {kind}, "
            f"{self.num_devices} replica(s), {self.precision}, global batch "
            f"{_global_batch(train)}, {int(train.cardinality())} steps an epoch.",
            highlight=False,
            soft_wrap=True,
        )

    def _report_checkpoints(self) -> None:
        checkpoint = self.checkpoint_callback
        if self.enable_checkpointing and self.enable_progress_bar and checkpoint:
            best = checkpoint.best_model_path or "none: no val_accuracy"
            self._console.print(f"Best checkpoint: {best}", soft_wrap=True)
            self._console.print(
                f"Last checkpoint: {checkpoint.last_model_path}", soft_wrap=True
            )


def _refuse_uncompiled(model: keras.Model) -> None:
    if not model.compiled:
        raise MisconfigurationError(
            "The model has no optimizer and loss: call model.compile(...) inside "
            "`with trainer.scope():`."
        )


def _with_optimizer(model: keras.Model) -> keras.Model:
    """Build the optimizer: for a checkpoint to load, and to trace one step, not two."""
    _refuse_uncompiled(model)
    model.optimizer.build(model.trainable_variables)
    return model


def _close(callbacks: list[keras.callbacks.Callback]) -> None:
    """Take the bar away and close the log, also where training was interrupted."""
    for callback in callbacks:
        if isinstance(callback, ProgressBar):
            callback.close()
        if isinstance(callback, keras.callbacks.CSVLogger) and callback.csv_file:
            callback.csv_file.close()


def _global_batch(train: tf.data.Dataset) -> int:
    """Give the pictures of a batch over all replicas."""
    images = tf.nest.flatten(train.element_spec)[0]
    if images.shape[0] is not None:
        return images.shape[0]
    return tf.nest.flatten(next(iter(train)))[0].shape[0]
