"""What a trainer can be told. Needs neither Keras nor TensorFlow: `--help` is quick."""

import datetime
import os
from collections.abc import Iterable, Sequence
from dataclasses import KW_ONLY, dataclass, fields, replace
from pathlib import Path
from typing import Any

STAGES = ("train", "val", "test", "predict")


@dataclass(frozen=True, eq=False, repr=False)
class Flags:
    """The arguments of a `Trainer`: Lightning's, each with what it becomes in Keras.

    They are what the user said, and nothing writes to them: what a fit derives from
    them, from its data and from its model is its `Plan`.

    Args:
        max_epochs: Epochs to train, over all runs that resume each other;
            `model.fit(epochs=max_epochs)`. `fit` needs it, or `max_steps`. -1 for a
            training without end, but for `max_time`, callbacks and Ctrl-C.
        min_epochs: Epochs to train at least, whatever callbacks such as `EarlyStopping`
            ask for: `callbacks=[MinEpochs(min_epochs)]`. Limits end it all the same.
        max_steps: Batches to train on, over all runs that resume each other, -1 for as
            many as the epochs have: `callbacks=[MaxSteps(max_steps)]`. The execution
            that the last one is in is finished.
        max_time: Time to train, as "DD:HH:MM:SS", a `datetime.timedelta` or a
            dictionary of its arguments: `callbacks=[Timer(max_time)]`.
        accelerator: "auto", "gpu" or "cpu": the devices to choose from,
            `tf.config.list_logical_devices("GPU")`.
        devices: "auto", a number of devices, -1 for all, or a list of their numbers.
        strategy: "auto", "none", "mirrored", "multi_worker_mirrored" or a
            `tf.distribute.Strategy`; see `make_strategy`. `with strategy.scope():` the
            model is made and compiled.
        num_nodes: Machines that train together, checked against the cluster that
            `TF_CONFIG` names: `tf.distribute.MultiWorkerMirroredStrategy()`. 1 for
            this one alone, or, with strategy="multi_worker_mirrored", as many as there
            are in `TF_CONFIG`.
        precision: "32-true", "bf16-mixed", "16-mixed", "64-true", or the name of a
            Keras policy; `keras.config.set_dtype_policy(...)`, and with "64-true"
            `keras.config.set_floatx("float64")`, for losses and metrics.
        logger: True for `callbacks=[CSVLogger(...), TensorBoard(...)]` in the run's
            folder, False for none, or such callbacks of your own.
        callbacks: Keras callbacks, `model.fit(callbacks=[*callbacks, ...])`. They come
            after `LearningRateMonitor` and before the logs; a `ModelCheckpoint` is
            called last, whatever its place.
        default_root_dir: Folder that holds `runs`; by default the current one. Several
            machines must all see it.
        fast_dev_run: Number of batches to run of everything, True for one, to see that
            it works, without the trainer's logs and checkpoints: `dataset.take(n)`.
        limit_train_batches: Batches of an epoch, a number or a share of them; the next
            epoch goes on with the following ones: `model.fit(steps_per_epoch=n)`.
        limit_val_batches: `val_dataset.take(n)`; 0 for no validation.
        limit_test_batches: `test_dataset.take(n)`.
        limit_predict_batches: `predict_dataset.take(n)`.
        overfit_batches: Number or share of training batches to learn by heart, and to
            validate on: `train_dataset.take(n).cache().repeat()`. 0 for all of them.
        check_val_every_n_epoch: `model.fit(validation_freq=n)`.
        val_check_interval: Share of an epoch, or number of its batches, after which is
            validated: `model.fit(steps_per_epoch=n, epochs=max_epochs * batches / n)`.
            To callbacks, logs and checkpoints each is an epoch, so that `EarlyStopping`
            counts validations, as in Lightning.
        num_sanity_val_steps: Batches to validate before training, to see early that it
            works: `model.evaluate(val_dataset.take(n))`. Lightning's default is 2; here
            it is 0, as it takes the graph of the validation to be built first.
        log_every_n_steps: Steps from one point of TensorBoard's curves to the next:
            `TensorBoard(update_freq=n)`.
        enable_checkpointing: Whether to keep the last and the best checkpoint:
            `callbacks=[ModelCheckpoint()]`.
        enable_progress_bar: Whether to print a line an epoch, and a bar in a terminal:
            `callbacks=[ProgressBar(...)]`.
        enable_model_summary: Whether to print what the network is made of, by its
            outermost parts, before it trains: `model.summary()`, in short.
        accumulate_grad_batches: Batches whose gradients are averaged for one step of
            the optimizer: `optimizer.gradient_accumulation_steps = n`. `max_steps` and
            `global_step` count batches all the same, as Keras's schedules do. On
            several devices a batch is that of all of them.
        gradient_clip_val: Largest norm of the gradients of a step, all together, or
            largest value of any; None for no clipping. On several devices it is the
            gradients' sum over all of them that is clipped.
        gradient_clip_algorithm: "norm", `optimizer.global_clipnorm`; or "value",
            `optimizer.clipvalue`.
        deterministic: Whether to use kernels whose results do not vary from run to
            run: `tf.config.experimental.enable_op_determinism()`, for the process.
        detect_anomaly: Whether to stop at the first operation that makes a NaN, slowly:
            `tf.debugging.enable_check_numerics()`, while it trains. A loss that is NaN
            ends the training in any case.
        profiler: "tensorboard" to record the device's time for a few steps, after the
            ten ones: `TensorBoard(profile_batch=(10, 14))`.
        jit_compile: "auto", True or False, whether XLA compiles a step:
            `model.compile(jit_compile=...)`.
        steps_per_execution: Steps without a look at callbacks:
            `model.compile(steps_per_execution=...)`.
        run_eagerly: Whether to run without a graph, to debug:
            `model.compile(run_eagerly=...)`.
        sync_batchnorm: Whether batch norms normalize over all replicas; the network
            must have the option: `network(sync_batchnorm=True)`.
    """

    max_epochs: int | None = None
    _: KW_ONLY
    min_epochs: int | None = None
    max_steps: int = -1
    max_time: str | datetime.timedelta | dict | None = None
    accelerator: str = "auto"
    devices: int | str | Sequence[int] = "auto"  # as text 2 is a number
    strategy: Any = "auto"
    num_nodes: int = 1
    precision: str = "32-true"
    logger: Any = True
    callbacks: Sequence[Any] | None = None
    default_root_dir: str | os.PathLike = "."
    fast_dev_run: bool | int = False
    limit_train_batches: int | float = 1.0
    limit_val_batches: int | float = 1.0
    limit_test_batches: int | float = 1.0
    limit_predict_batches: int | float = 1.0
    overfit_batches: int | float = 0
    check_val_every_n_epoch: int = 1
    val_check_interval: int | float = 1.0
    num_sanity_val_steps: int = 0
    log_every_n_steps: int = 50
    enable_checkpointing: bool = True
    enable_progress_bar: bool = True
    enable_model_summary: bool = True
    accumulate_grad_batches: int = 1
    gradient_clip_val: float | None = None
    gradient_clip_algorithm: str = "norm"
    deterministic: bool = False
    detect_anomaly: bool = False
    profiler: str | None = None
    jit_compile: bool | str = "auto"
    steps_per_execution: int = 1
    run_eagerly: bool = False
    sync_batchnorm: bool = False

    def resolved(self) -> "Flags":
        """Return the flags that these stand for: short forms are written out.

        `fast_dev_run` becomes one epoch of as many batches, without checkpoints; None,
        which is Lightning's default of many flags, becomes ours; and one callback
        becomes a list.
        """
        flags = replace(self, **self._defaults_of_none())
        written_out: dict[str, Any] = {
            "default_root_dir": Path(flags.default_root_dir or "."),
            "callbacks": listed(flags.callbacks),
            "gradient_clip_val": flags.gradient_clip_val or None,
            "fast_dev_run": int(flags.fast_dev_run),
        }
        if flags.fast_dev_run:
            written_out |= {"max_epochs": 1, "enable_checkpointing": False}
            written_out |= {"min_epochs": None, "val_check_interval": 1.0}
            limits = (f"limit_{stage}_batches" for stage in STAGES)
            written_out |= dict.fromkeys(limits, int(flags.fast_dev_run))
        return replace(flags, **written_out)

    def _defaults_of_none(self) -> dict[str, Any]:
        """Return the defaults of flags that are None, but for one of another meaning.

        In Lightning `check_val_every_n_epoch=None` validates across epochs.
        """
        return {
            flag.name: flag.default
            for flag in fields(self)
            if getattr(self, flag.name) is None
            and flag.name != "check_val_every_n_epoch"
        }

    def given(self) -> dict[str, Any]:
        """Return those that are not the defaults, by name."""
        return {
            flag.name: value
            for flag in fields(self)
            for value in [getattr(self, flag.name)]
            # 1 is not 1.0: one batch, and all of them.
            if type(value) is not type(flag.default) or value != flag.default
            if value or flag.name != "callbacks"
        }


def listed(callbacks: Any) -> list[Any]:
    """Return a list, of None and of one callback, too."""
    if callbacks is None:
        return []
    return list(callbacks) if isinstance(callbacks, Iterable) else [callbacks]
