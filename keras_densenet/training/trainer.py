"""The trainer: PyTorch Lightning's, ending in one plain `model.fit`."""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from keras_densenet.analysis.curves import plot_curves
from keras_densenet.analysis.report import write_report
from keras_densenet.callbacks import (
    ModelCheckpoint,
    ProgressBar,
    ThroughputMonitor,
    Timer,
)
from keras_densenet.callbacks.interruption import Interruption
from keras_densenet.callbacks.run import Run, skip_first
from keras_densenet.checkpoint_file import RunState, load_checkpoint, write_file
from keras_densenet.data import DataModule
from keras_densenet.devices.cluster import cluster_of
from keras_densenet.devices.multi_worker import (
    from_first_worker,
    mend_keras,
    names_lost_workers,
    refuse_to_disagree,
)
from keras_densenet.devices.precision import dtype_policy, policy_name, unscaled
from keras_densenet.devices.strategy import make_strategy
from keras_densenet.errors import MisconfigurationError, NotANumberError
from keras_densenet.training.batches import (
    batches_to_fit,
    global_batch_size,
    shared_out,
    steps_per_epoch,
    whole_executions,
)
from keras_densenet.training.callback_order import (
    callbacks_in_order,
    listed,
    the_checkpoint,
)
from keras_densenet.training.compilation import (
    Module,
    compiled,
    is_of,
    refuse_foreign,
    refuse_uncompiled,
)
from keras_densenet.training.exporting import Measured, refuse_to_export, write
from keras_densenet.training.flags import Flags
from keras_densenet.training.image_classifier import ImageClassifier
from keras_densenet.training.limits import take
from keras_densenet.training.misconfiguration import refuse_misconfiguration
from keras_densenet.training.reporting import (
    HELD_OUT,
    command_to_report,
    held_out,
    predictions_of,
    some_pictures,
)
from keras_densenet.training.resumption import (
    checkpoint_path,
    nothing_left,
    refuse_to_resume,
)
from keras_densenet.training.run_config import given_flags, write_config
from keras_densenet.training.run_folder import (
    CHECKPOINTS,
    continued_folder,
    folder_of,
    run_folder,
    run_of,
    version_of,
)
from keras_densenet.training.screen import Screen, device_line


class Trainer(Flags):
    """Train, validate, test, predict and export.

    `fit(module, datamodule=data)` does this, in this order:

        data.prepare_data(), data.setup("fit")
        with strategy and precision:
            model = module.configure_model(data)
            model.compile(module.configure_optimizer(...), ...loss, ...metrics)
        load the checkpoint, if one is given
        model.fit(data.train_batches(step), validation_data=data.val_dataset(), ...)
        data.teardown("fit")

    A run writes to `<default_root_dir>/runs/<data>-<model>/version_<N>/`:

        config.yaml              what it was made with; `fit --config` reads it
        metrics.csv, curves.png  loss and metrics of each epoch; drawn at the end
        train/, validation/      TensorBoard's events
        checkpoints/             last.keras, before-last.keras and the best

    A run that ended early, by Ctrl-C, SIGTERM or worse, goes on with `ckpt_path="last"`
    exactly as it would have: weights, optimizer, schedule, random seeds, the order of
    the data, callbacks and logs. On Ctrl-C and SIGTERM it saves after the step that it
    takes, and raises `SystemExit` with code 130 or 143.

    On several machines each runs the same program with its own `TF_CONFIG`; they see
    one `default_root_dir`, and the first one, `is_global_zero`, writes to it and
    prints. See docs/several_machines.md.

    Its arguments are the `Flags`, each with the line of Keras that it becomes.

    Attributes:
        strategy: The `tf.distribute.Strategy`, or None for one device.
        num_devices: Number of replicas, on all machines; also `world_size`.
        log_dir: Folder of the latest `fit`, or None.
        checkpoint_callback: The `ModelCheckpoint` of the latest `fit`, or None.
        throughput: The `ThroughputMonitor` of the latest `fit`, or None.

    Raises:
        MisconfigurationError: What cannot work, before anything is built.
        WorkerLostError: Another machine is gone; from all methods.
    """

    callbacks: list[keras.callbacks.Callback]

    def __post_init__(self) -> None:
        """Check the flags, and make the strategy."""
        _refuse_other_backends()
        self._given = given_flags(self)
        self.default_root_dir = Path(self.default_root_dir or ".")
        self.callbacks = listed(self.callbacks)
        self.logger = self.logger is None or self.logger
        self.gradient_clip_val = self.gradient_clip_val or None
        self.fast_dev_run = int(self.fast_dev_run)
        if self.fast_dev_run:
            self.max_epochs, self.enable_checkpointing = 1, False
            for stage in ("train", "val", "test", "predict"):
                setattr(self, f"limit_{stage}_batches", self.fast_dev_run)
        self.strategy = make_strategy(
            self.strategy, self.devices, self.accelerator, self.num_nodes
        )
        self._cluster = cluster_of(self.strategy)
        self.num_devices = self.strategy.num_replicas_in_sync if self.strategy else 1
        self.log_dir: Path | None = None
        self.checkpoint_callback: ModelCheckpoint | None = None
        self.throughput: ThroughputMonitor | None = None
        self._policy = policy_name(self.precision)
        self._run: Run | None = None
        self._resumed_from: Path | None = None
        self._data: DataModule | None = None
        self._measured = Measured()
        self._screen = Screen(quiet=not self.is_global_zero)
        refuse_misconfiguration(self)
        if self.deterministic:
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

    @names_lost_workers
    def fit(
        self,
        module: Module,
        datamodule: DataModule,
        ckpt_path: str | os.PathLike | None = None,
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
        if self.max_epochs is None and self.max_steps == -1:
            raise MisconfigurationError(
                "fit needs Trainer(max_epochs=...), or max_steps=."
            )
        begun = time.perf_counter()
        self._read(datamodule, "fit")
        one_epoch = datamodule.train_dataset()
        steps = steps_per_epoch(self, one_epoch)
        self.max_epochs = self.max_epochs or -(-self.max_steps // steps)
        batch_size = global_batch_size(one_epoch, self.num_devices)
        model = compiled(self, module, datamodule, self._total_steps(steps))
        self._measured = Measured()
        steps = whole_executions(steps, model.steps_per_execution)
        state = self._resume(model, datamodule, ckpt_path, steps)
        if state and self._is_over(state, steps):
            datamodule.teardown("fit")
            return _no_history(model)
        if self._cluster:
            refuse_to_disagree(self.strategy, state, datamodule.state_dict())
        done = state.step if state else 0
        train, val = batches_to_fit(self, datamodule, steps, done)
        run = self._new_run(module, model, datamodule, batch_size, steps, state)
        self._announce(model, batch_size, steps)
        if val is not None and self.num_sanity_val_steps:
            model.evaluate(val.take(self.num_sanity_val_steps), verbose=0)
        history = self._train(run, train, val, _class_weight(module))
        datamodule.teardown("fit")
        self._report(run, begun)
        return history

    def validate(
        self,
        module: Module,
        datamodule: DataModule,
        ckpt_path: str | os.PathLike | None = None,
    ) -> dict[str, float]:
        """Give loss and metrics on the validation pictures, and print them."""
        return self._evaluate(module, datamodule, ckpt_path, "validate")

    def test(
        self,
        module: Module,
        datamodule: DataModule,
        ckpt_path: str | os.PathLike | None = None,
    ) -> dict[str, float]:
        """Give loss and metrics on the test pictures, and print them."""
        return self._evaluate(module, datamodule, ckpt_path, "test")

    def predict(
        self,
        module: Module,
        datamodule: DataModule,
        ckpt_path: str | os.PathLike | None = None,
    ) -> np.ndarray:
        """Give class probabilities `(N, classes)` of the pictures to predict."""
        if self._cluster:
            raise MisconfigurationError(
                "predict on several machines would give each the answers of its own "
                "share alone. Predict in one process, without TF_CONFIG and with "
                "strategy='auto', num_nodes=1 and ckpt_path=."
            )
        self._read(datamodule, "predict")
        model = self._ready(module, datamodule, ckpt_path)
        dataset = take(datamodule.predict_dataset(), self.limit_predict_batches)
        answer = model.predict(shared_out(self, dataset), verbose=0)
        datamodule.teardown("predict")
        return answer

    @names_lost_workers
    def export(
        self,
        module: Module,
        path: str | os.PathLike,
        *,
        datamodule: DataModule | None = None,
        ckpt_path: str | os.PathLike | None = None,
        format: str = "savedmodel",  # noqa: A002, as in Keras
        quantize: str | None = None,
    ) -> Path:
        """Write a network that takes raw RGB pictures, for a server or a device.

        Args:
            module: What was trained.
            path: Of a SavedModel the folder of its versions, "saved_models/cifar10",
                where the next number is added: `<path>/1`. Of others the file, such as
                "cifar10.onnx".
            datamodule: Says how pictures are prepared, and names the classes; by
                default the one trained or tested on last.
            ckpt_path: As in `fit`; None exports the model as it is.
            format: "savedmodel" for TensorFlow Serving, "litert" or "onnx".
            quantize: Of LiteRT "dynamic" or "int8": see `keras_densenet.export.litert`.
                It is calibrated with training pictures, and refused where test pictures
                show that it costs more than 2 percentage points of accuracy.

        Returns:
            The folder of the new version, or the file.

        Raises:
            MisconfigurationError: There is no such format, or no data module.
            keras_densenet.export.ExportError: It does not answer as the model does.
        """
        data = refuse_to_export(datamodule or self._data, format, quantize, path)
        model = self._ready(module, data, ckpt_path)
        written = Path(path)
        if self.is_global_zero:
            metrics = self._measured.of(model, ckpt_path)
            say = self._screen.say
            written = write(model, path, data, format, quantize, metrics, say)
        if self._cluster and format == "savedmodel":
            # All know the number, once it is written.
            number = int(written.name) if self.is_global_zero else 0
            number = from_first_worker(self.strategy, number)
            written = Path(path) / str(number)
        self._screen.say(f"Exported {written}")
        return written

    def report(
        self,
        module: Module,
        datamodule: DataModule | None = None,
        ckpt_path: str | os.PathLike | None = None,
        path: str | os.PathLike | None = None,
    ) -> Path | None:
        """Write a page about what was trained, which any browser opens by itself.

        Learning curves, confusion matrix, the worst mistakes as pictures, reliability,
        feature reuse, gradients, costs and configuration: see
        `keras_densenet.analysis.write_report`. It is of the test pictures; where there
        are none, of the validation pictures.

        Args:
            module: What was trained.
            datamodule: By default the one trained or tested on last.
            ckpt_path: As in `fit`; None takes the model as it is.
            path: Of the page; by default `report.html` in the run's folder.

        Returns:
            The path. None on several machines, of which each has a share of the
            pictures: then it prints the command that writes it in one process.

        Raises:
            MisconfigurationError: There are no pictures.
        """
        data = datamodule or self._data
        if data is None:
            raise MisconfigurationError("report needs datamodule=: its test pictures.")
        if self._cluster:
            self._screen.say(command_to_report(self.log_dir))
            return None
        stage, dataset = held_out(self, data)
        self._data = data
        model = self._ready(module, data, ckpt_path)
        run = self._run_of(model, data, ckpt_path)
        written = write_report(
            path or (run or Path(self.default_root_dir)) / "report.html",
            model,
            predictions_of(model, dataset, data),
            title=f"{model.name} on {data.title}",
            pictures=HELD_OUT[stage],
            run=run,
            batch=some_pictures(model, dataset),
        )
        data.teardown(stage)
        self._screen.say(f"Report: {written}")
        return written

    @names_lost_workers
    def save_checkpoint(self, filepath: str | os.PathLike) -> Path:
        """Write the model of the latest `fit` as it is now, for `ckpt_path`.

        All workers must call it, and the first one writes.

        Raises:
            MisconfigurationError: There was no fit yet.
            OSError: It could not be written.
        """
        if self._run is None:
            raise MisconfigurationError("save_checkpoint needs a fit first.")
        path = Path(filepath)
        state = self._run.state()  # all workers together add up the metrics
        if self.is_global_zero:
            write_file(path, self._run.model, state)
        return path

    # --- what Lightning's users look at --------------------------------------------

    @property
    def model(self) -> keras.Model | None:
        """The model of the latest fit."""
        return self._run.model if self._run else None

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or SIGTERM has ended the latest fit."""
        return bool(self._run and self._run.interruption.received)

    @property
    def console(self) -> Console:
        """Where it prints; quiet where another process prints."""
        return self._screen.console

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
        callbacks = self._run.callbacks if self._run else self.callbacks
        stopping = keras.callbacks.EarlyStopping
        return next((c for c in callbacks if isinstance(c, stopping)), None)

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
        return self._cluster.rank if self._cluster else 0

    @property
    def is_global_zero(self) -> bool:
        """Whether this process writes the files."""
        return self.global_rank == 0

    # --- one step each -----------------------------------------------------------

    def _read(self, data: DataModule, stage: str) -> None:
        data.prepare_data()
        data.setup(stage)
        self._data = data

    def _total_steps(self, steps: int) -> int:
        """Give the steps of the whole training, which the schedule is made for."""
        total = (self.max_epochs or 1) * steps
        return total if self.max_steps == -1 else min(total, self.max_steps)

    def _new_run(
        self,
        module: Module,
        model: keras.Model,
        data: DataModule,
        batch_size: int,
        steps: int,
        state: RunState | None,
    ) -> Run:
        """Make the run: its folder, its callbacks, and what ends it early."""
        done = state.step if state else 0
        mine = list(self.callbacks)
        if isinstance(module, ImageClassifier):
            with self.scope():
                mine += module.configure_callbacks()
        self.throughput = ThroughputMonitor(batch_size)
        self.checkpoint_callback = the_checkpoint(mine, self.enable_checkpointing)
        self.log_dir = None
        if not self.fast_dev_run:
            self.log_dir = self._folder(self._runs(model, data), done // steps)
            config = self.log_dir / "config.yaml"
            if self.is_global_zero and not config.exists():
                write_config(config, self._given, module, data)
        run = Run(
            callbacks_in_order(self, mine, self.throughput, done),
            model=model,
            data=data,
            epochs=self.max_epochs or 1,
            steps_per_epoch=steps,
            state=state,
            interruption=self._interruption(),
        )
        if self.checkpoint_callback and self.log_dir:
            self.checkpoint_callback.attach(
                run, self.log_dir / CHECKPOINTS, self.is_global_zero
            )
        self._run = run
        return run

    def _folder(self, runs: Path, epoch: int) -> Path:
        """Give the run's folder; of several workers the first one makes it."""
        folder = continued_folder(runs, self._resumed_from)
        if self.is_global_zero:
            folder = run_folder(runs, self._resumed_from, epoch)
        if not self._cluster or continued_folder(runs, self._resumed_from):
            return folder  # type: ignore[return-value]
        number = version_of(folder) if folder else 0
        return folder_of(runs, from_first_worker(self.strategy, number))

    def _interruption(self) -> Interruption:
        if self._cluster:  # any worker may get the signal, and all but one are quiet
            return Interruption(self._end_interrupted, print, can_save=False)
        return Interruption(self._save_interrupted, self._screen.say)

    def _train(
        self,
        run: Run,
        train: tf.data.Dataset,
        val: tf.data.Dataset | None,
        class_weight: dict[int, float] | None,
    ) -> keras.callbacks.History:
        """Call the one plain `model.fit` that all this is for."""
        try:
            with (
                run.interruption.heeded(),
                skip_first(run.model, run.skipped),
                _checked_numerics(self.detect_anomaly),
            ):
                return run.model.fit(
                    train,
                    validation_data=val,
                    validation_freq=self.check_val_every_n_epoch,
                    epochs=self.max_epochs,
                    initial_epoch=run.first_epoch,
                    steps_per_epoch=run.steps_per_epoch,
                    callbacks=run,
                    class_weight=class_weight,
                    shuffle=False,
                    verbose=0,
                )
        except BaseException as error:
            if not run.has_ended:
                _close(run.callbacks)
            if isinstance(error, tf.errors.OpError) and self._cluster:
                run.interruption.end_if_asked()  # the others got the signal, too
            if isinstance(error, NotANumberError):
                raise NotANumberError(f"{error} {self._last_good()}") from error
            raise

    def _ready(
        self, module: Module, data: DataModule, ckpt_path: str | os.PathLike | None
    ) -> keras.Model:
        """Give the model for anything but training."""
        if isinstance(module, keras.Model):
            refuse_foreign(self, module)
            model = module
        elif module.model is None or not is_of(self, module.model):
            if module.model is None and ckpt_path is None:
                raise MisconfigurationError(
                    "The module is not trained yet: call fit first, or pass ckpt_path=."
                )
            model = compiled(self, module, data, steps=1)
        else:
            model = module.model
        if self._cluster:
            mend_keras(model)
        if ckpt_path is not None:
            if model.compiled:  # the checkpoint has its optimizer, too
                with self.scope():
                    model.optimizer.build(model.trainable_variables)
            load_checkpoint(model, self._checkpoint(model, data, ckpt_path))
            _take_averages(model)
        return model

    def _run_of(
        self, model: keras.Model, data: DataModule, ckpt_path: str | os.PathLike | None
    ) -> Path | None:
        """Give the folder of the run that a model's weights are of, if it is known."""
        if ckpt_path is not None:
            return run_of(self._checkpoint(model, data, ckpt_path))
        return self.log_dir if self.model is model else None

    @names_lost_workers
    def _evaluate(
        self,
        module: Module,
        data: DataModule,
        ckpt_path: str | os.PathLike | None,
        stage: str,
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
        refuse_uncompiled(model)
        dataset = shared_out(self, dataset)
        metrics = model.evaluate(dataset, verbose=0, return_dict=True)
        data.teardown(stage)
        added = {stage: metrics}
        self._measured = self._measured.adding(model, ckpt_path, added)
        self._screen.metrics(stage, metrics)
        return metrics

    def _resume(
        self,
        model: keras.Model,
        data: DataModule,
        ckpt_path: str | os.PathLike | None,
        steps: int,
    ) -> RunState | None:
        """Load a checkpoint, if one is given, and give where its run was."""
        self._resumed_from = None
        if ckpt_path is None:
            return None
        path = self._checkpoint(model, data, ckpt_path)
        state = load_checkpoint(model, path)
        if state is None:  # a plain .keras file, saved after a whole epoch
            state = RunState(int(model.optimizer.iterations), steps, data.state_dict())
        refuse_to_resume(path, state, steps, data)
        data.load_state_dict(state.data)
        epochs, batches = divmod(state.step, steps)
        more = f" and {batches} batches" if batches else ""
        self._screen.say(f"Resuming after epoch {epochs}{more} from {path}")
        self._resumed_from = path
        return state

    def _is_over(self, state: RunState, steps: int) -> bool:
        """Say whether a run that is resumed has nothing left to train."""
        why = nothing_left(state, steps, self.max_epochs or 1, self.max_steps)
        if why:
            self._screen.say(f"Nothing is left to train: {why}.")
        return bool(why)

    def _checkpoint(
        self, model: keras.Model, data: DataModule, ckpt_path: str | os.PathLike
    ) -> Path:
        """Turn "best", "last" or a path into a path."""
        latest = self.checkpoint_callback or the_checkpoint(
            self.callbacks, enabled=True
        )
        runs = self._runs(model, data)
        return checkpoint_path(ckpt_path, latest, runs, self._screen.say)

    def _runs(self, model: keras.Model, data: DataModule) -> Path:
        name = f"{type(data).__name__.lower()}-{model.name}"
        return Path(self.default_root_dir) / "runs" / name

    def _announce(self, model: keras.Model, batch_size: int, steps: int) -> None:
        """Say what is going to be trained, and how."""
        if self.fast_dev_run:
            self._screen.say(
                f"Running in fast_dev_run mode: {self.fast_dev_run} batch(es) of "
                "everything, nothing is kept."
            )
        if self.enable_model_summary:
            self._screen.summary(model)
        if self.enable_progress_bar:
            line = device_line(
                self.strategy, self.num_devices, self.precision, batch_size, steps
            )
            self._screen.say(line)

    def _report(self, run: Run, begun: float) -> None:
        """Draw the curves, and say why the run ended and where everything is."""
        if not self.is_global_zero:
            return
        if self.log_dir and (self.log_dir / "metrics.csv").exists():
            plot_curves(self.log_dir / "metrics.csv", self.log_dir / "curves.png")
        if self.enable_progress_bar and self.throughput:
            self._screen.say(f"Trainer.fit stopped: {self._why(run)}.")
            self._screen.end(
                self.log_dir,
                self.checkpoint_callback,
                begun,
                self.throughput.images_per_second,
            )

    def _why(self, run: Run) -> str:
        """Say why a training ended."""
        if run.step >= (self.max_epochs or 1) * run.steps_per_epoch:
            return f"max_epochs={self.max_epochs} reached"
        if self.max_steps != -1 and run.step >= self.max_steps:
            return f"max_steps={self.max_steps} reached"
        stopping = self.early_stopping_callback
        if stopping and stopping.stopped_epoch:
            return (
                f"{stopping.monitor} has not improved for {stopping.patience} epochs "
                "(EarlyStopping)"
            )
        if any(isinstance(c, Timer) and c.is_over for c in run.callbacks):
            return f"max_time={self.max_time} is over"
        return "a callback asked for it"

    def _last_good(self) -> str:
        path = getattr(self.checkpoint_callback, "last_model_path", "")
        return (
            f"The last good checkpoint: {path}." if path else "Nothing was saved yet."
        )

    def _end_interrupted(self) -> None:
        checkpoint = self.checkpoint_callback
        path = checkpoint.last_model_path if checkpoint else ""
        print(
            "A worker cannot save alone, so that nothing is saved now. "
            f"The last checkpoint: {path or 'none of this run'}. To go on: start all "
            "workers again, with ckpt_path='last'."
        )

    def _save_interrupted(self) -> None:
        checkpoint = self.checkpoint_callback
        if checkpoint is None:
            self._screen.say("Checkpointing is off: nothing is saved.")
        elif checkpoint.save():
            self._screen.say(
                f"Saved {checkpoint.last_model_path}. To go on: fit again, with "
                "ckpt_path='last'."
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


def _class_weight(module: Module) -> dict[int, float] | None:
    is_ours = isinstance(module, ImageClassifier)
    return module.configure_class_weight() if is_ours else None


def _no_history(model: keras.Model) -> keras.callbacks.History:
    """Give the history of a run that trained nothing."""
    history = keras.callbacks.History()
    history.set_model(model)
    history.on_train_begin()
    return history


def _take_averages(model: keras.Model) -> None:
    """Let a checkpoint's averages of the weights (EMA) be its weights, if it has them.

    They are what `fit` leaves in the model at its end, and what is validated.
    """
    optimizer = unscaled(getattr(model, "optimizer", None))
    if getattr(optimizer, "use_ema", False):
        optimizer.finalize_variable_values(model.trainable_variables)


def _close(callbacks: list[keras.callbacks.Callback]) -> None:
    """Take the bar away and close the logs of a training that ended early."""
    loggers = (ProgressBar, keras.callbacks.CSVLogger, keras.callbacks.TensorBoard)
    for callback in callbacks:
        if isinstance(callback, loggers):
            callback.on_train_end()
