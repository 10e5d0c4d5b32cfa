"""The trainer: PyTorch Lightning's, ending in one plain `model.fit`."""

import inspect
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from rich.console import Console

from keras_densenet.analysis.answers import predictions_of
from keras_densenet.analysis.calibration import refuse_other_rules
from keras_densenet.analysis.curves import plot_curves
from keras_densenet.analysis.deciding import decide
from keras_densenet.analysis.report import write_report
from keras_densenet.callbacks.loggers import only_written_down
from keras_densenet.callbacks.run import Run, build_metrics, skip_first
from keras_densenet.checkpoint_file import RunState, write_file
from keras_densenet.data import DataModule, Pictures
from keras_densenet.decisions import Decisions, keep_decisions
from keras_densenet.devices import make_devices
from keras_densenet.devices.multi_worker import names_lost_workers, refuse_to_disagree
from keras_densenet.errors import MisconfigurationError
from keras_densenet.one_owner import held_alone
from keras_densenet.training.arguments import (
    CkptPath,
    Data,
    checked_path,
    checkpoint_and_validation,
    data_of,
    module_of,
    refuse_unknown_labels,
)
from keras_densenet.training.beginning import (
    announce,
    folders_of,
    keep_books,
    make_folder,
    make_run,
)
from keras_densenet.training.callback_order import (
    refuse_to_set_a_schedule,
    the_checkpoint,
    users_callbacks,
)
from keras_densenet.training.compilation import (
    compiled,
    mend,
    refuse_foreign,
    refuse_other_data,
    refuse_uncompiled,
    unbuilt_if_not_loaded,
)
from keras_densenet.training.deciding import (
    held_for_decisions,
    kept_decisions,
    refuse_shares,
    table_of,
    write_into,
)
from keras_densenet.training.ending import (
    broken_pictures_named,
    checked_numerics,
    errors_told,
    labels_told,
    why_it_ended,
)
from keras_densenet.training.exporting import (
    Measured,
    refuse_to_export,
    refuse_without_preprocessing,
    write,
)
from keras_densenet.training.flags import Flags
from keras_densenet.training.image_classifier import (
    ImageClassifier,
    Module,
    class_weight_of,
)
from keras_densenet.training.latest_fit import LatestFit, as_numbers
from keras_densenet.training.lightning_names import refuse_other_flags
from keras_densenet.training.limits import evaluated_batches
from keras_densenet.training.misconfiguration import (
    refuse_misconfiguration,
    refuse_other_backends,
    refuse_shares_of_pictures,
)
from keras_densenet.training.origin import other_validation, refuse_to_answer_about
from keras_densenet.training.plan import Plan, make_plan
from keras_densenet.training.reporting import (
    HELD_OUT,
    command_to_report,
    held_out,
    some_pictures,
)
from keras_densenet.training.resumption import (
    checkpoint_path,
    how_far,
    keep_split,
    load_trained,
    moved_schedule,
    nothing_left,
    resumed,
    which,
)
from keras_densenet.training.run_folder import name_of, run_of
from keras_densenet.training.screen import Screen
from keras_densenet.training.views import Views, asked, checked_views


class Trainer(LatestFit):
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

    Its arguments are the `Flags`, each with the line of Keras that it becomes. They can
    be read, `trainer.max_epochs`, and not be changed: make another trainer.

    Attributes:
        flags: The `Flags`, with their short forms written out.
        hardware: The `keras_densenet.devices.Devices` that they ask for.
        runs: Where the `version_<N>` folders are; None for the place above.

    Raises:
        MisconfigurationError: What cannot work, before anything is built.
        WorkerLostError: Another machine is gone; from all methods.
    """

    __signature__ = inspect.signature(Flags)

    def __init__(self, max_epochs: int | None = None, **flags: Any) -> None:
        refuse_other_backends()
        refuse_other_flags(flags, [flag.name for flag in fields(Flags)])
        self._said = Flags(max_epochs, **flags)
        self.flags = self._said.resolved()
        self.hardware = make_devices(
            self.flags.strategy,
            self.flags.devices,
            self.flags.accelerator,
            self.flags.num_nodes,
            self.flags.precision,
        )
        refuse_misconfiguration(self.flags, self.hardware)
        self.runs: Path | None = None
        self._screen = Screen(quiet=not self.is_global_zero)
        self._module: Module | None = None  # used last, as are the data
        self._data: DataModule | None = None
        self._measured = Measured()
        if self.flags.deterministic:
            tf.config.experimental.enable_op_determinism()

    # --- what users call ---------------------------------------------------------

    @contextmanager
    def scope(self) -> Iterator[None]:
        """Make and compile your own `keras.Model` inside: strategy and precision.

        It becomes `with strategy.scope():` and `keras.config.set_dtype_policy(...)`.
        """
        with self.hardware.scope():
            yield

    @names_lost_workers
    def fit(
        self,
        module: Module | None = None,
        datamodule: Data = None,
        ckpt_path: CkptPath = None,
        *,
        model: Module | None = None,
        train_dataloaders: Data = None,
        val_dataloaders: Data = None,
    ) -> keras.callbacks.History:
        """Train up to `max_epochs`.

        Datasets and arrays may be given for the data module, and in the third place
        those to validate on: `fit(module, train, validation)`, `fit(module, (images,
        labels))`. They become `kd.data.Datasets` and `kd.data.Arrays`, which have more
        options.

        Args:
            module: An `ImageClassifier`, or a model made and compiled in `scope()`.
            datamodule: Training and validation pictures.
            ckpt_path: Where to go on: a checkpoint's path, "last" for the latest run's
                last checkpoint, "best" for this trainer's best, or None to begin.
            model: Lightning's name for `module`.
            train_dataloaders: Lightning's name for a dataset to train on.
            val_dataloaders: Lightning's name for one to validate on.

        Returns:
            Keras's history of losses and metrics, one entry an epoch.

        Raises:
            MisconfigurationError: What is given is of another kind, or cannot work.
        """
        module = module_of("fit", module, model)
        ckpt_path, validation = checkpoint_and_validation(ckpt_path, val_dataloaders)
        data = data_of(
            "fit",
            datamodule=datamodule,
            dataloaders=train_dataloaders,
            validation=validation,
        )
        with self._reading(module, data, "fit"):
            return self._fit(module, data, ckpt_path)

    def _fit(
        self, module: Module, datamodule: DataModule, ckpt_path: CkptPath
    ) -> keras.callbacks.History:
        begun = time.perf_counter()
        built = self._built_to_fit(module, datamodule, ckpt_path)
        model, mine, source, plan, state = built
        reason = nothing_left(state, plan, mine)
        over = bool(reason) and state.epoch_ended
        ends_an_epoch = bool(reason) and not state.epoch_ended
        folder = make_folder(plan, self._runs(model, datamodule), source, state)
        screen = self._screen
        run = make_run(plan, model, mine, folder, source, state, screen, ends_an_epoch)
        with held_alone(folders_of(run) if self.is_global_zero else ()):
            changes = keep_books(run, plan, self._said, module, over)
            self._run, self._plan, self._measured = run, plan, Measured()
            if over:
                screen.say(f"Nothing is left to train: {reason}.")
            else:
                self._say_what_begins(run, plan, changes, state)
            history = self._train(run, plan, class_weight_of(module), over)
            self._say_how_it_went(run, plan, begun)
        return history

    def validate(
        self,
        module: Module | None = None,
        datamodule: Data = None,
        ckpt_path: CkptPath = None,
        *,
        model: Module | None = None,
        dataloaders: Data = None,
    ) -> dict[str, float]:
        """Return loss and metrics on the validation pictures, and print them.

        Module and data that are not given are those that were used last. Instead of a
        data module a `tf.data.Dataset` or arrays (pictures, labels) are taken, too;
        these are standardized as the training's were. All this holds for `test`,
        `predict`, `export` and `report`, too.

        Args:
            module: What was trained.
            datamodule: The pictures.
            ckpt_path: As in `fit`; None takes the model as it is.
            model: Lightning's name for `module`.
            dataloaders: Lightning's name for a dataset.
        """
        module, data = self._given("validate", module, model, datamodule, dataloaders)
        return self._evaluate(
            module, data, checked_path("validate", ckpt_path), "validate"
        )

    def test(
        self,
        module: Module | None = None,
        datamodule: Data = None,
        ckpt_path: CkptPath = None,
        *,
        model: Module | None = None,
        dataloaders: Data = None,
    ) -> dict[str, float]:
        """Return loss and metrics on the test pictures, and print them."""
        module, data = self._given("test", module, model, datamodule, dataloaders)
        return self._evaluate(module, data, checked_path("test", ckpt_path), "test")

    def predict(
        self,
        module: Module | None = None,
        datamodule: Data = None,
        ckpt_path: CkptPath = None,
        *,
        model: Module | None = None,
        dataloaders: Data = None,
        views: Views = None,
    ) -> np.ndarray:
        """Return class probabilities `(N, classes)` of the pictures to predict.

        Logits are made probabilities, and one unit with a sigmoid those of two classes.
        Several units with sigmoids give each class's own probability, of any sum. Where
        `keras_densenet.model_output` does not know what the last layers give, the
        numbers are returned as they are. What `calibrate` chose is heeded.

        With `views` the network is asked about several views of each picture, and
        answers with the mean of their probabilities. Where the data say `mirror=False`
        both ways are refused, since both mirror: a chest has its heart on the left, and
        what a network makes of one that it was never shown makes the mean no better.

        Args:
            module: What was trained.
            datamodule: The pictures.
            ckpt_path: As in `fit`; None takes the model as it is.
            model: Lightning's name for `module`.
            dataloaders: Lightning's name for a dataset.
            views: "flip" for a picture and its mirror image, left to right; 10 for the
                ten crops of the ImageNet literature, center and corners of both, where
                the data have larger pictures; None for the picture as it is.

        Raises:
            MisconfigurationError: The data do not allow such views.
        """
        views = checked_views(views)
        if self.hardware.cluster:
            refuse_shares_of_pictures("predict", "return to each the answers about its")
        module, data = self._given("predict", module, model, datamodule, dataloaders)
        ckpt_path = checked_path("predict", ckpt_path)
        with self._reading(module, data, "predict"):
            network = self._ready(module, data, ckpt_path)
            batches = evaluated_batches("predict", data, self.flags, views)
            batches = self.hardware.shared_out(batches)
            decisions = kept_decisions(network, self._screen.say)
            return asked(
                self.hardware, network, batches, data.num_classes, views, decisions
            )

    def calibrate(
        self,
        module: Module | None = None,
        datamodule: Data = None,
        ckpt_path: CkptPath = None,
        *,
        rule: str = "youden",
        temperature: bool = True,
        model: Module | None = None,
        dataloaders: Data = None,
    ) -> Decisions:
        """Choose a temperature and a threshold for each label.

        By the validation pictures alone: what is tested is not what decided. The model
        keeps them, as long as its weights are what they are now: `report` and `export`
        use them, and `predict` returns probabilities at the temperatures.
        `save_checkpoint` writes them, and the checkpoint of `ckpt_path` gets them.

        Where each picture has one class, all classes have the same temperature, and
        each is told from all others by its threshold.

        Args:
            module: What was trained; by default what was used last.
            datamodule: What it was trained on; by default what was used last.
            ckpt_path: As in `fit`; None takes the model as it is.
            rule: What the threshold is chosen by: "youden" for the largest sum of
                sensitivity and specificity, "f1" for the largest F1, "sensitivity=0.9"
                for the highest that finds so large a share of those with the label,
                "ppv=0.8" for the lowest at which so large a share of those to which it
                is given have it.
            temperature: Whether logits are divided by the number that makes
                probabilities as likely as they say (Guo et al. 2017).
            model: Lightning's name for `module`.
            dataloaders: Lightning's name for a dataset.

        Returns:
            The decisions.

        Raises:
            MisconfigurationError: There are no validation pictures; or the network
                gives each class its own probability, and pictures have one class; or
                the checkpoint is of a training that goes on.
            OSError: The checkpoint could not be written.
            ValueError: It is another rule.
        """
        if self.hardware.cluster:
            refuse_shares_of_pictures("calibrate", "choose on each by its")
        refuse_other_rules(rule)
        module, data = self._given("calibrate", module, model, datamodule, dataloaders)
        ckpt_path = checked_path("calibrate", ckpt_path)
        with self._reading(module, data, "validate"):
            network = self._ready(module, data, ckpt_path)
            refuse_shares(network, data)
            source = self._checkpoint(network, data, ckpt_path)
            with held_for_decisions(source):
                batches = evaluated_batches("validate", data, self.flags)
                plain = Decisions.undecided(data.class_names, data.labels == "several")
                predictions = predictions_of(network, batches, data, plain)
                decisions = decide(predictions, rule, temperature)
                keep_decisions(network, decisions)
                self._screen.console.print(table_of(decisions))
                if source:
                    write_into(source, decisions)
                    self._screen.say(f"{source} keeps the decisions.")
        return decisions

    @names_lost_workers
    def export(
        self,
        module: Module | None = None,
        path: str | os.PathLike | None = None,
        *,
        model: Module | None = None,
        datamodule: DataModule | None = None,
        ckpt_path: CkptPath = None,
        format: str = "savedmodel",  # noqa: A002, as in Keras
        quantize: str | None = None,
        precision: str = "float32",
    ) -> Path:
        """Write a network that takes raw pictures, for a server or a device.

        Signals and volumes as well, in their own units; of pictures alone there is what
        takes files, and LiteRT has not all that volumes need.

        Args:
            module: What was trained; by default what was used last.
            path: Of a SavedModel the folder of its versions, "saved_models/cifar10",
                where the next number is added: `<path>/1`. Of others the file, such as
                "cifar10.onnx".
            model: Lightning's name for `module`.
            datamodule: Says how pictures are prepared, and names the classes; by
                default the one trained or tested on last.
            ckpt_path: As in `fit`; None exports the model as it is.
            format: "savedmodel" for TensorFlow Serving, "litert" or "onnx".
            quantize: Of LiteRT "dynamic" or "int8": see `keras_densenet.export.litert`.
                It is calibrated with training pictures, and refused where test pictures
                show that it costs more than 2 percentage points of accuracy.
            precision: Of a SavedModel "float32" or "bfloat16", which takes and returns
                float32 all the same: half the file, and faster on processors that
                multiply in it. It is refused where test pictures show that it costs
                more than 0.2 percentage points: see `keras_densenet.export.savedmodel`.

        Returns:
            The folder of the new version, or the file.

        Raises:
            MisconfigurationError: There is no such format, or no data module.
            keras_densenet.export.ExportError: It does not answer as the model does.
        """
        module, data = self._given("export", module, model, datamodule)
        ckpt_path = checked_path("export", ckpt_path)
        path = refuse_to_export(data, format, quantize, precision, path)
        network = self._ready(module, data, ckpt_path)
        self._module, self._data = module, data
        written = path
        if self.is_global_zero:
            metrics = self._measured.of(network, ckpt_path)
            say = self._screen.say
            decisions = kept_decisions(network, say)
            how = (data, format, quantize, precision)
            written = write(network, path, *how, metrics, say, decisions)
        if self.hardware.cluster and format == "savedmodel":
            # All know the number, once it is written.
            number = int(written.name) if self.is_global_zero else 0
            written = path / str(self.hardware.number_of_first(number))
        self._screen.say(f"Exported {written}")
        return written

    def report(
        self,
        module: Module | None = None,
        datamodule: Data = None,
        ckpt_path: CkptPath = None,
        path: str | os.PathLike | None = None,
        *,
        model: Module | None = None,
        dataloaders: Data = None,
    ) -> Path | None:
        """Write a page about what was trained, which any browser opens by itself.

        Learning curves, confusion matrix, the worst mistakes as pictures, reliability,
        feature reuse, gradients, costs and configuration: see
        `keras_densenet.analysis.write_report`. It is of the test pictures; where there
        are none, of the validation pictures.

        Args:
            module: What was trained; by default what was used last.
            datamodule: By default the one trained or tested on last.
            ckpt_path: As in `fit`; None takes the model as it is.
            path: Of the page; by default `report.html` in the run's folder.
            model: Lightning's name for `module`.
            dataloaders: Lightning's name for a dataset.

        Returns:
            The path. None on several machines, of which each has a share of the
            pictures: then it prints the command that writes it in one process.

        Raises:
            MisconfigurationError: There are no pictures.
        """
        module, data = self._given("report", module, model, datamodule, dataloaders)
        ckpt_path = checked_path("report", ckpt_path)
        if self.hardware.cluster:
            self._screen.say(command_to_report(self.log_dir))
            return None
        refuse_without_preprocessing("report", data)
        data.prepare_data()
        data.setup("test")
        self._module, self._data = module, data
        network = self._ready(module, data, ckpt_path)
        stage, batches = held_out(self.flags, data)
        run = self._folder_of(network, data, ckpt_path)
        decisions = kept_decisions(network, self._screen.say)
        members = data.members("test" if stage == "test" else "val")
        groups = members.groups if members else None
        with broken_pictures_named(data):
            predictions = predictions_of(network, batches, data, decisions, groups)
        written = write_report(
            path or (run or Path(self.flags.default_root_dir)) / "report.html",
            network,
            predictions,
            title=f"{network.name} on {data.title}",
            pictures=HELD_OUT[stage],
            run=run,
            batch=some_pictures(network, batches),
            decisions=decisions,
        )
        data.teardown(stage)
        self._screen.say(f"Report: {written}")
        return written

    @property
    def console(self) -> Console:
        """Where it prints; quiet where another process prints."""
        return self._screen.console

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

    # --- the steps of a fit ------------------------------------------------------

    def _built_to_fit(
        self, module: Module, data: DataModule, ckpt_path: CkptPath
    ) -> tuple[
        keras.Model, list[keras.callbacks.Callback], Path | None, Plan, RunState
    ]:
        """Return the model, the user's callbacks, and how and where they go on."""
        flags, devices = self.flags, self.hardware
        plan = make_plan(flags, devices, module, data)
        build = partial(compiled, flags, devices, module, data)
        build = partial(build, from_checkpoint=ckpt_path is not None)
        model = build(plan.scheduled_steps)
        with unbuilt_if_not_loaded(module):
            mine = users_callbacks(flags, devices, module)
            refuse_to_set_a_schedule(mine, model)
            source = self._checkpoint(model, data, ckpt_path)
            if source and keep_split(data, source):  # more pictures, or fewer
                plan = make_plan(flags, devices, module, data)
                model = build(plan.scheduled_steps)
            state = self._resumed(model, source, plan)
        return model, mine, source, plan, state

    def _resumed(self, model: keras.Model, source: Path | None, plan: Plan) -> RunState:
        """Return where the run begins, or goes on: all workers must agree on it."""
        if source is None:
            state = RunState(0, plan.steps_per_epoch)
        else:
            state = resumed(model, source, plan)
            far = how_far(state.step, state.steps_per_epoch)
            self._screen.say(f"Resuming after {far} from {source}")
            self._screen.say_if(other_validation(state, plan))
        if self.hardware.cluster:
            order = plan.data.state_dict()
            refuse_to_disagree(self.hardware.strategy, state.step, order)
        return state

    def _say_what_begins(
        self, run: Run, plan: Plan, changes: list[str], state: RunState
    ) -> None:
        """Say what is trained; of a run that goes on what is other than before."""
        for change in changes:
            self._screen.say(f"Other than before: {change}.")
        self._screen.say_if(moved_schedule(state, plan, run.model))
        announce(plan, run.model, self._screen)

    def _train(
        self, run: Run, plan: Plan, class_weight: dict[int, float] | None, over: bool
    ) -> keras.callbacks.History:
        """Call the one plain `model.fit` that all this is for.

        Where nothing is left to train, it does what is done at the end: callbacks put
        the best weights into the model, and the optimizer the averages.
        """
        train, val = plan.train_batches(run.step), plan.val_batches()
        first_epoch = max(1, run.first_epoch) if over else run.first_epoch
        if run.skipped and not over and self.hardware.strategy is None:
            with self.hardware.running():
                build_metrics(run.model, train.element_spec)
        with (
            errors_told(run, self.hardware),
            run.interruption.heeded(),
            skip_first(run),
            self.hardware.running(),
            checked_numerics(self.flags.detect_anomaly),
        ):
            if val is not None and self.flags.num_sanity_val_steps and not over:
                few = val.take(self.flags.num_sanity_val_steps)
                run.model.evaluate(few, verbose=0)
            return run.model.fit(
                train,
                validation_data=val,
                validation_freq=self.flags.check_val_every_n_epoch,
                epochs=first_epoch if over else run.epochs,
                initial_epoch=first_epoch,
                steps_per_epoch=run.steps_per_epoch,
                callbacks=run,
                class_weight=class_weight,
                shuffle=False,
                verbose=0,
            )

    def _say_how_it_went(self, run: Run, plan: Plan, begun: float) -> None:
        """Draw the curves, and say why the run ended and where everything is."""
        if not self.is_global_zero:
            return
        if run.folder and (run.folder / "metrics.csv").exists():
            with only_written_down(run.folder / "curves.png"):
                plot_curves(run.folder / "metrics.csv", run.folder / "curves.png")
        if self.flags.enable_progress_bar:
            self._screen.say(f"Trainer.fit stopped: {why_it_ended(run, plan)}.")
            self._screen.end(run, begun)

    # --- what the methods share --------------------------------------------------

    def _given(
        self,
        method: str,
        module: Module | None,
        model: Module | None,
        datamodule: Data,
        dataloaders: Data = None,
    ) -> tuple[Module, DataModule]:
        """Return module and data, of which those used last are the default."""
        module = module_of(method, module, model, self._module)
        data = data_of(
            method,
            datamodule=datamodule,
            dataloaders=dataloaders,
            remembered=self._data,
        )
        return module, data

    @contextmanager
    def _reading(self, module: Module, data: DataModule, stage: str) -> Iterator[None]:
        """Let the data be read inside, and remember both for the next call."""
        data.prepare_data()
        data.setup(stage)
        self._module, self._data = module, _trained_on(data)
        try:
            refuse_unknown_labels(data)
            with broken_pictures_named(data):
                yield
        except BaseException as error:
            data.on_exception(error)
            raise
        finally:
            data.teardown(stage)

    def _ready(
        self, module: Module, data: DataModule, ckpt_path: CkptPath
    ) -> keras.Model:
        """Return the model for anything but training."""
        model = self._built(module, data, ckpt_path)
        refuse_other_data(model, data)
        before = self._trained_with(module) if ckpt_path is None else None
        if before is not None:
            refuse_to_answer_about(model.name, before, data)
        mend(self.hardware, model)
        with unbuilt_if_not_loaded(module):
            source = self._checkpoint(model, data, ckpt_path)
            state = load_trained(model, source, self.hardware, data) if source else None
        if state:
            data.keep_split(state.data)
        if source and ckpt_path in ("last", "best"):
            self._screen.say(which(source, state))
        return model

    def _trained_with(self, module: Module) -> DataModule | None:
        """Return what a module was trained on in this process, if it was."""
        if isinstance(module, ImageClassifier):
            return module.data
        return self._plan.data if self._plan and self.model is module else None

    def _built(
        self, module: Module, data: DataModule, ckpt_path: CkptPath
    ) -> keras.Model:
        """Return the model that a module is or has, or a new one for a checkpoint."""
        if isinstance(module, keras.Model):
            refuse_foreign(self.hardware, module)
            return module
        if module.model is None and ckpt_path is None:
            raise MisconfigurationError(
                "The module is not trained yet: call fit first, or give the path of a "
                "checkpoint, ckpt_path."
            )
        if module.model is None or not self.hardware.hold(module.model):
            loads = ckpt_path is not None
            return compiled(
                self.flags, self.hardware, module, data, 1, from_checkpoint=loads
            )
        return module.model

    @names_lost_workers
    def _evaluate(
        self,
        module: Module,
        data: DataModule,
        ckpt_path: CkptPath,
        stage: str,
    ) -> dict[str, float]:
        with self._reading(module, data, stage):
            model = self._ready(module, data, ckpt_path)
            refuse_uncompiled(model)
            batches = evaluated_batches(stage, data, self.flags)
            batches = self.hardware.shared_out(batches)
            with self.hardware.running(), labels_told():
                metrics = model.evaluate(batches, verbose=0, return_dict=True)
        metrics = as_numbers(metrics)
        self._measured = self._measured.adding(model, ckpt_path, {stage: metrics})
        self._screen.metrics(stage, metrics)
        return metrics

    def _folder_of(
        self, model: keras.Model, data: DataModule, ckpt_path: CkptPath
    ) -> Path | None:
        """Return the folder of the run that a model is of, if it is known."""
        source = self._checkpoint(model, data, ckpt_path)
        if source:
            return run_of(source)
        return self.log_dir if self.model is model else None

    def _checkpoint(
        self, model: keras.Model, data: DataModule, ckpt_path: CkptPath
    ) -> Path | None:
        """Return the path that "best", "last" or a path stands for; None for None."""
        if ckpt_path is None:
            return None
        latest = self.checkpoint_callback or the_checkpoint(self.flags.callbacks or ())
        runs = self._runs(model, data)
        return checkpoint_path(ckpt_path, latest, runs, self._screen.say)

    def _runs(self, model: keras.Model, data: DataModule) -> Path:
        name = f"{type(_trained_on(data)).__name__.lower()}-{name_of(model)}"
        return self.runs or Path(self.flags.default_root_dir) / "runs" / name


def _trained_on(data: DataModule) -> DataModule:
    """Return the data that a network was trained on, of new pictures."""
    return data.like if isinstance(data, Pictures) else data
