"""The trainer: PyTorch Lightning's, ending in one plain `model.fit`."""

import datetime
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
    LearningRateMonitor,
    MaxSteps,
    ModelCheckpoint,
    NotANumberError,
    ProgressBar,
    StopOnNaN,
    Timer,
)
from keras_densenet.training.checkpoints import (
    RunState,
    latest_whole,
    load_checkpoint,
    write_file,
)
from keras_densenet.training.errors import MisconfigurationError
from keras_densenet.training.image_classifier import ImageClassifier
from keras_densenet.training.interruption import Interruption
from keras_densenet.training.limits import limited, take
from keras_densenet.training.misconfiguration import (
    refuse_compiled,
    refuse_misconfiguration,
)
from keras_densenet.training.precision import dtype_policy, policy_name
from keras_densenet.training.run import Run, skip_first
from keras_densenet.training.run_folder import run_folder, written
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
        model.fit(data.train_batches(step), validation_data=data.val_dataset(), ...)
        data.teardown("fit")

    A run writes to `<default_root_dir>/kd_logs/<model>/version_<N>/`: `metrics.csv`
    and `checkpoints/`.

    A run that ended early, by Ctrl-C, SIGTERM or worse, goes on with `ckpt_path="last"`
    exactly as it would have: weights, optimizer, schedule, random seeds, the order of
    the data, callbacks and logs. On Ctrl-C and SIGTERM it saves after the step that it
    takes, and raises `SystemExit` with code 130 or 143.

    Args:
        max_epochs: Epochs to train, over all runs that resume each other;
            `model.fit(epochs=max_epochs)`. Needed by `fit` alone.
        max_steps: Steps to train, over all runs that resume each other, -1 for as many
            as the epochs have: `callbacks=[MaxSteps(max_steps)]`.
        max_time: Time to train, as "DD:HH:MM:SS", a `datetime.timedelta` or a
            dictionary of its arguments: `callbacks=[Timer(max_time)]`.
        accelerator: "auto", "gpu" or "cpu": the devices to choose from,
            `tf.config.list_logical_devices("GPU")`.
        devices: "auto", a number of devices, or a list of their numbers.
        strategy: "auto", "none", "mirrored" or a `tf.distribute.Strategy`; see
            `make_strategy`. `with strategy.scope():` the model is made and compiled.
        precision: "32-true", "bf16-mixed", "16-mixed", "64-true", or the name of a
            Keras policy; `keras.config.set_dtype_policy(...)`.
        callbacks: Keras callbacks, `model.fit(callbacks=[*callbacks, ...])`. They come
            after `LearningRateMonitor` and before the logs; a `ModelCheckpoint` is
            called last, whatever its place.
        default_root_dir: Folder that holds `kd_logs`; by default the current one.
        fast_dev_run: Number of batches to run of everything, True for one, to see that
            it works; nothing is kept: `dataset.take(n)`.
        limit_train_batches: Batches of an epoch, a number or a share of them; the next
            epoch goes on with the following ones: `model.fit(steps_per_epoch=n)`.
        limit_val_batches: `val_dataset.take(n)`; 0 for no validation.
        limit_test_batches: `test_dataset.take(n)`.
        limit_predict_batches: `predict_dataset.take(n)`.
        overfit_batches: Number or share of training batches to learn by heart, and to
            validate on: `train_dataset.take(n).cache().repeat()`. 0 for all of them.
        check_val_every_n_epoch: `model.fit(validation_freq=n)`.
        num_sanity_val_steps: Batches to validate before training, to see early that it
            works: `model.evaluate(val_dataset.take(n))`. Lightning's default is 2; here
            it is 0, as it takes the graph of the validation to be built first.
        enable_checkpointing: Whether to keep the last and the best checkpoint:
            `callbacks=[ModelCheckpoint()]`.
        enable_progress_bar: Whether to print a line an epoch, and a bar in a terminal:
            `callbacks=[ProgressBar(...)]`.
        accumulate_grad_batches: Batches whose gradients are averaged for one step:
            `optimizer.gradient_accumulation_steps = n`.
        gradient_clip_val: Largest norm of the gradients of a step, all together, or
            largest value of any; None for no clipping.
        gradient_clip_algorithm: "norm", `optimizer.global_clipnorm`; or "value",
            `optimizer.clipvalue`.
        deterministic: Whether to use kernels whose results do not vary from run to
            run: `tf.config.experimental.enable_op_determinism()`, for the process.
        detect_anomaly: Whether to stop at the first operation that makes a NaN, slowly:
            `tf.debugging.enable_check_numerics()`, while it trains. A loss that is NaN
            ends the training in any case.
        jit_compile: "auto", True or False, whether XLA compiles a step:
            `model.compile(jit_compile=...)`.
        steps_per_execution: Steps without a look at callbacks:
            `model.compile(steps_per_execution=...)`.
        run_eagerly: Whether to run without a graph, to debug:
            `model.compile(run_eagerly=...)`.
        sync_batchnorm: Whether batch norms normalise over all replicas; the network
            must have the option: `network(sync_batchnorm=True)`.

    Attributes:
        strategy: The `tf.distribute.Strategy`, or None for one device.
        num_devices: Number of replicas; also `world_size`.
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
        max_steps: int = -1,
        max_time: str | datetime.timedelta | dict | None = None,
        accelerator: str = "auto",
        devices: str | int | Sequence[int] = "auto",
        strategy: str | tf.distribute.Strategy = "auto",
        precision: str = "32-true",
        callbacks: Sequence[keras.callbacks.Callback] = (),
        default_root_dir: str | os.PathLike = ".",
        fast_dev_run: bool | int = False,
        limit_train_batches: float = 1.0,
        limit_val_batches: float = 1.0,
        limit_test_batches: float = 1.0,
        limit_predict_batches: float = 1.0,
        overfit_batches: float = 0,
        check_val_every_n_epoch: int = 1,
        num_sanity_val_steps: int = 0,
        enable_checkpointing: bool = True,
        enable_progress_bar: bool = True,
        accumulate_grad_batches: int = 1,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str = "norm",
        deterministic: bool = False,
        detect_anomaly: bool = False,
        jit_compile: bool | str = "auto",
        steps_per_execution: int = 1,
        run_eagerly: bool = False,
        sync_batchnorm: bool = False,
    ) -> None:
        _refuse_other_backends()
        self.max_epochs = 1 if fast_dev_run else max_epochs
        self.max_steps = max_steps
        self.max_time = max_time
        self.precision = precision
        self.callbacks = list(callbacks)
        self.default_root_dir = Path(default_root_dir)
        self.fast_dev_run = int(fast_dev_run)
        self.limit_train_batches = self.fast_dev_run or limit_train_batches
        self.limit_val_batches = self.fast_dev_run or limit_val_batches
        self.limit_test_batches = self.fast_dev_run or limit_test_batches
        self.limit_predict_batches = self.fast_dev_run or limit_predict_batches
        self.overfit_batches = overfit_batches
        self.check_val_every_n_epoch = check_val_every_n_epoch
        self.num_sanity_val_steps = num_sanity_val_steps
        self.enable_checkpointing = enable_checkpointing and not fast_dev_run
        self.enable_progress_bar = enable_progress_bar
        self.accumulate_grad_batches = accumulate_grad_batches
        self.gradient_clip_val = gradient_clip_val
        self.gradient_clip_algorithm = gradient_clip_algorithm
        self.deterministic = deterministic
        self.detect_anomaly = detect_anomaly
        self.jit_compile = jit_compile
        self.steps_per_execution = steps_per_execution
        self.run_eagerly = run_eagerly
        self.sync_batchnorm = sync_batchnorm
        self.strategy = make_strategy(strategy, devices, accelerator)
        self.num_devices = self.strategy.num_replicas_in_sync if self.strategy else 1
        self.log_dir: Path | None = None
        self.checkpoint_callback: ModelCheckpoint | None = None
        self.progress_bar: ProgressBar | None = None
        self._policy = policy_name(precision)
        self._run: Run | None = None
        self._resumed_from: Path | None = None
        self._data: DataModule | None = None
        self._console = Console()
        refuse_misconfiguration(self)
        if deterministic:
            tf.config.experimental.enable_op_determinism()

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
        one_epoch = datamodule.train_dataset()
        steps, batch_size = self._steps(one_epoch), self._batch_size(one_epoch)
        model = self._compiled(module, datamodule, self._total_steps(steps))
        steps = _whole_executions(steps, model.steps_per_execution)
        state = self._resume(model, datamodule, ckpt_path, steps)
        train, val = self._datasets(datamodule, steps, state)
        self._announce(model, batch_size, steps)
        interruption = Interruption(self._save_interrupted, self._console.print)
        run = Run(
            self._callbacks(module, model, batch_size, state),
            model=model,
            data=datamodule,
            epochs=self.max_epochs,
            steps_per_epoch=steps,
            state=state,
            interruption=interruption,
        )
        self._run = run
        if self.checkpoint_callback and self.log_dir:
            self.checkpoint_callback.attach(run, self.log_dir / "checkpoints")
        if val is not None and self.num_sanity_val_steps:
            model.evaluate(val.take(self.num_sanity_val_steps), verbose=0)
        with interruption.heeded():
            history = self._train(run, train, val)
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
        dataset = take(datamodule.predict_dataset(), self.limit_predict_batches)
        answer = model.predict(self._shared_out(dataset), verbose=0)
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

    def save_checkpoint(self, filepath: str | os.PathLike) -> Path:
        """Write the model of the latest `fit` as it is now, for `ckpt_path`.

        Raises:
            MisconfigurationError: There was no fit yet.
            OSError: It could not be written.
        """
        if self._run is None:
            raise MisconfigurationError("save_checkpoint needs a fit first.")
        path = Path(filepath)
        write_file(path, self._run.model, self._run.state())
        return path

    # --- what Lightning's users look at --------------------------------------------

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
        return dict(self._run.logs) if self._run else {}

    logged_metrics = callback_metrics

    @property
    def num_training_batches(self) -> int:
        """Steps of an epoch of the latest fit."""
        return self._run.steps_per_epoch if self._run else 0

    @property
    def estimated_stepping_batches(self) -> int:
        """Steps of the whole training of the latest fit."""
        return self._total_steps(self.num_training_batches)

    @property
    def early_stopping_callback(self) -> keras.callbacks.EarlyStopping | None:
        """The first `keras.callbacks.EarlyStopping`, or None."""
        stopping = keras.callbacks.EarlyStopping
        return next((c for c in self.callbacks if isinstance(c, stopping)), None)

    @property
    def should_stop(self) -> bool:
        """Whether the training is to end; set it to end it after this step."""
        return bool(self._run and self._run.model.stop_training)

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        if self._run:
            self._run.model.stop_training = value

    @property
    def world_size(self) -> int:
        """Number of replicas."""
        return self.num_devices

    @property
    def global_rank(self) -> int:
        """Number of this process among the workers: 0 where there is one."""
        return 0

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes the files."""
        return self.global_rank == 0

    # --- one step each -----------------------------------------------------------

    def _read(self, data: DataModule, stage: str) -> None:
        data.prepare_data()
        data.setup(stage)
        self._data = data

    def _shared_out(self, dataset: Any) -> Any:
        if dataset is None or self.num_devices == 1:
            return dataset
        return halve_last_batches(dataset, self.num_devices)

    def _steps(self, train: tf.data.Dataset) -> int:
        """Give the steps of an epoch, refusing what cannot be trained on."""
        steps = int(train.cardinality())
        if steps < 1 and not self.fast_dev_run:
            raise MisconfigurationError(
                "train_dataset() must know how many batches it has: end it with "
                ".apply(tf.data.experimental.assert_cardinality(n)). "
                f"Its cardinality is {steps}."
            )
        if self.fast_dev_run:
            return self.fast_dev_run
        return limited(steps, self.overfit_batches or self.limit_train_batches)

    def _batch_size(self, train: tf.data.Dataset) -> int:
        """Give the pictures of a global batch, refusing what replicas cannot share."""
        size = _global_batch(train)
        if size % self.num_devices:
            raise MisconfigurationError(
                f"A global batch of {size} pictures cannot be shared by "
                f"{self.num_devices} devices: use a multiple of {self.num_devices}."
            )
        return size

    def _total_steps(self, steps: int) -> int:
        """Give the steps of the whole training, which the schedule is made for."""
        total = (self.max_epochs or 1) * steps
        return total if self.max_steps == -1 else min(total, self.max_steps)

    def _datasets(
        self, data: DataModule, steps: int, state: RunState | None
    ) -> tuple[tf.data.Dataset, tf.data.Dataset | None]:
        """Give the batches to train on, without end, and those to validate on."""
        step = state.step if state else 0
        if self.overfit_batches:
            few = data.train_dataset().take(steps).cache()
            return few.repeat().skip(step % steps), few
        val = take(data.val_dataset(), self.limit_val_batches)
        return data.train_batches(step), self._shared_out(val)

    def _compiled(self, module: Module, data: DataModule, steps: int) -> keras.Model:
        """Give the model, built and compiled inside the strategy."""
        if isinstance(module, keras.Model):
            refuse_compiled(self)
            model = self._made_here(module)
            with self.scope():
                return _with_optimizer(model)
        with self.scope():
            before = module.model
            model = module.configure_model(data, **self._network_options())
            if before is not None:
                model.set_weights(before.get_weights())
            model.compile(
                optimizer=self._limited(module.configure_optimizer(steps)),
                loss=module.configure_loss(),
                metrics=module.configure_metrics(),
                jit_compile=self.jit_compile,
                steps_per_execution=self.steps_per_execution,
                run_eagerly=self.run_eagerly,
            )
            module.model = _with_optimizer(model)
        return model

    def _train(
        self, run: Run, train: tf.data.Dataset, val: tf.data.Dataset | None
    ) -> keras.callbacks.History:
        """Call the one plain `model.fit` that all this is for."""
        skip_first(run.model, run.skipped)
        try:
            with _checked_numerics(self.detect_anomaly):
                return run.model.fit(
                    train,
                    validation_data=val,
                    validation_freq=self.check_val_every_n_epoch,
                    epochs=self.max_epochs,
                    initial_epoch=run.first_epoch,
                    steps_per_epoch=run.steps_per_epoch,
                    callbacks=run,
                    shuffle=False,
                    verbose=0,
                )
        except NotANumberError as error:
            raise NotANumberError(f"{error} {self._last_good()}") from error
        finally:
            _close(run.callbacks)

    def _network_options(self) -> dict[str, Any]:
        return {"sync_batchnorm": True} if self.sync_batchnorm else {}

    def _limited(
        self, optimizer: keras.optimizers.Optimizer
    ) -> keras.optimizers.Optimizer:
        """Let an optimizer clip, and average the gradients of several batches."""
        if self.gradient_clip_val is not None:
            by_norm = self.gradient_clip_algorithm == "norm"
            name = "global_clipnorm" if by_norm else "clipvalue"
            setattr(optimizer, name, self.gradient_clip_val)
        if self.accumulate_grad_batches > 1:
            optimizer.gradient_accumulation_steps = self.accumulate_grad_batches
        return optimizer

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
        if stage == "test":
            dataset = take(data.test_dataset(), self.limit_test_batches)
        else:
            dataset = take(data.val_dataset(), self.limit_val_batches)
        if dataset is None:
            raise MisconfigurationError(
                f"There is nothing to {stage} on: the data module holds out no data, "
                "or the trainer's limit is 0 batches."
            )
        model = self._ready(module, data, ckpt_path)
        _refuse_uncompiled(model)
        dataset = self._shared_out(dataset)
        metrics = model.evaluate(dataset, verbose=0, return_dict=True)
        data.teardown(stage)
        table = Table("metric", stage)
        for name, value in metrics.items():
            table.add_row(name, f"{value:.4f}")
        self._console.print(table)
        return metrics

    def _resume(
        self,
        model: keras.Model,
        data: DataModule,
        ckpt_path: str | None,
        steps: int,
    ) -> RunState | None:
        """Load a checkpoint, if one is given, and give where its run was."""
        self._resumed_from = None
        if ckpt_path is None:
            return None
        path = self._checkpoint(model, ckpt_path)
        state = load_checkpoint(model, path)
        if state is None:  # a plain .keras file, saved after a whole epoch
            state = RunState(int(model.optimizer.iterations), steps, data.state_dict())
        within = state.step % steps
        if state.steps_per_epoch != steps or (within and not state.arrays):
            raise MisconfigurationError(
                f"{path} was written after {state.step} steps, which are no whole "
                f"epochs of {steps} steps: resume with the data and the batch_size "
                "that it was trained with."
            )
        epochs, batches = divmod(state.step, steps)
        if self.max_steps != -1 and state.step >= self.max_steps:
            raise MisconfigurationError(
                f"{path} has seen {state.step} steps, and max_steps={self.max_steps}: "
                "nothing is left to train. Raise max_steps to go on."
            )
        if self.max_epochs and epochs >= self.max_epochs:
            raise MisconfigurationError(
                f"{path} has seen {epochs} epochs, and max_epochs={self.max_epochs}: "
                "nothing is left to train. Raise max_epochs to go on."
            )
        data.load_state_dict(state.data)
        more = f" and {batches} batches" if batches else ""
        self._console.print(
            f"Resuming after epoch {epochs}{more} from {path}", soft_wrap=True
        )
        self._resumed_from = path
        return state

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
            return self._last_checkpoint(model)
        return Path(ckpt_path)

    def _last_checkpoint(self, model: keras.Model) -> Path:
        """Find the last whole checkpoint of the latest run that has one."""
        folders = self._runs(model).glob("version_*/checkpoints")
        for folder in sorted(folders, key=written, reverse=True):
            path, damaged = latest_whole(folder)
            for file in damaged:
                self._console.print(
                    f"{file} is damaged: taking the checkpoint before it.",
                    soft_wrap=True,
                )
            if path:
                return path
        raise MisconfigurationError(
            f"ckpt_path='last' found no checkpoint in {self._runs(model)}."
        )

    def _runs(self, model: keras.Model) -> Path:
        return self.default_root_dir / "kd_logs" / model.name

    def _callbacks(
        self,
        module: Module,
        model: keras.Model,
        batch_size: int,
        state: RunState | None,
    ) -> list[keras.callbacks.Callback]:
        """Give the callbacks of a fit, in the order in which they must be called."""
        mine = self.callbacks
        if isinstance(module, ImageClassifier):
            mine = [*mine, *module.configure_callbacks()]
        given = [c for c in mine if isinstance(c, ModelCheckpoint)]
        callbacks = [  # what may end the training, or add to the logs, is first
            StopOnNaN(),
            *self._limits(state.step if state else 0),
            LearningRateMonitor(),
            *(c for c in mine if c not in given),
        ]
        if self.num_devices > 1:
            callbacks.append(AverageMovingStatistics(self.strategy))
        self.progress_bar, self.checkpoint_callback, self.log_dir = None, None, None
        if self.enable_progress_bar:
            self.progress_bar = ProgressBar(batch_size, self._console)
            callbacks.append(self.progress_bar)
        if self.fast_dev_run:
            return callbacks
        epoch = state.step // state.steps_per_epoch if state else 0
        self.log_dir = run_folder(self._runs(model), self._resumed_from, epoch)
        metrics = self.log_dir / "metrics.csv"
        callbacks.append(keras.callbacks.CSVLogger(metrics, append=True))
        if self.enable_checkpointing:
            self.checkpoint_callback = given[0] if given else ModelCheckpoint()
            callbacks.append(self.checkpoint_callback)  # after what changes the model
        return callbacks

    def _limits(self, done: int) -> list[keras.callbacks.Callback]:
        limits: list[keras.callbacks.Callback] = []
        if self.max_steps != -1:
            limits.append(MaxSteps(self.max_steps, done))
        if self.max_time is not None:
            limits.append(Timer(self.max_time))
        return limits

    def _announce(self, model: keras.Model, batch_size: int, steps: int) -> None:
        if not self.enable_progress_bar:
            return
        parameters = sum(np.prod(w.shape) for w in model.trainable_weights)
        kind = type(self.strategy).__name__ if self.strategy else "one device"
        if self.fast_dev_run:
            self._console.print(
                f"Running in fast_dev_run mode: {self.fast_dev_run} batch(es) of "
                "everything, nothing is kept."
            )
        self._console.print(
            f"{model.name}: {parameters:,} trainable parameters. {kind}, "
            f"{self.num_devices} replica(s), {self.precision}, global batch "
            f"{batch_size}, {steps} steps an epoch.",
            highlight=False,
            soft_wrap=True,
        )

    def _last_good(self) -> str:
        path = getattr(self.checkpoint_callback, "last_model_path", "")
        return (
            f"The last good checkpoint: {path}." if path else "Nothing was saved yet."
        )

    def _save_interrupted(self) -> None:
        checkpoint = self.checkpoint_callback
        if checkpoint is None:
            self._console.print("Checkpointing is off: nothing is saved.")
        elif checkpoint.save():
            self._console.print(
                f"Saved {checkpoint.last_model_path}. To go on: fit again, with "
                "ckpt_path='last'.",
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


def _refuse_other_backends() -> None:
    if keras.backend.backend() != "tensorflow":
        raise MisconfigurationError(
            "Trainer needs the TensorFlow backend. On Keras's "
            f"{keras.backend.backend()} backend use model.fit, or set "
            "KERAS_BACKEND=tensorflow before Python starts."
        )


@contextmanager
def _checked_numerics(checked: bool) -> Iterator[None]:
    """Let the first operation that makes a NaN or an infinity raise its name."""
    if not checked:
        yield
        return
    tf.debugging.enable_check_numerics()
    try:
        yield
    finally:
        tf.debugging.disable_check_numerics()


def _whole_executions(steps: int, steps_per_execution: int) -> int:
    """Give the steps of an epoch: what is left of the data is the next epoch's."""
    if steps < steps_per_execution:
        raise MisconfigurationError(
            f"An epoch has {steps} steps, fewer than steps_per_execution="
            f"{steps_per_execution}: use {steps} or fewer."
        )
    return steps - steps % steps_per_execution


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
