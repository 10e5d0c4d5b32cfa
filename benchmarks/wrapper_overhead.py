"""Images/s of training by `Trainer.fit` against the bare `model.fit`.

    python benchmarks/wrapper_overhead.py

Both train the same network on the same batches with the same optimizer, in one process,
in turn. The trainer has all its defaults: progress bar, metrics.csv, TensorBoard and
checkpoints. The first row counts the time of an epoch's steps, from the end of the
first to the end of the last. The time spent outside of the step itself, in callbacks,
is printed separately: it varies little with what else the machine does. The second row
counts a whole epoch, with the checkpoint and the logs at its end.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import side_by_side
import worker
from trainer_worker import Noise

import keras_densenet as kd  # isort: skip, before what TensorFlow's kernels are set by
import keras
import tensorflow as tf

EPOCHS = 2


class Clock(keras.callbacks.Callback):
    """Notes when steps and epochs end."""

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Clear the lists, and time the function that takes a step."""
        self.inside: list[float] = []
        if not isinstance(self.model.train_function, _Timed):
            self.model.train_function = _Timed(self.model.train_function)
        self.model.train_function.seconds = self.inside
        self.steps: list[list[float]] = []
        self.epochs: list[float] = []

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Begin an epoch's list."""
        self.steps.append([])

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Note the end of a step, and of an epoch."""
        self.steps[-1].append(time.perf_counter())
        if batch + 1 == self.params["steps"]:
            self.epochs.append(time.perf_counter())

    def images_per_second(self, batch_size: int) -> tuple[float, float]:
        """Return the speed of the steps, and that of the second epoch as a whole."""
        inside = sum(times[-1] - times[0] for times in self.steps)
        steps = sum(len(times) - 1 for times in self.steps)
        whole = self.epochs[1] - self.epochs[0]
        each_epoch = len(self.steps[0])
        return batch_size * steps / inside, batch_size * each_epoch / whole

    def outside_ms(self) -> float:
        """Return the milliseconds for each step that are spent outside of it."""
        each = len(self.steps[0])
        outside = [
            times[i] - times[i - 1] - self.inside[epoch * each + i]
            for epoch, times in enumerate(self.steps)
            for i in range(1, each)
        ]
        return 1000 * statistics.median(outside)


class _Timed:
    """A function that takes a step, and the seconds of its calls."""

    def __init__(self, function: Callable) -> None:
        self.function = function
        self.seconds: list[float] = []

    def __call__(self, iterator: Any) -> Any:
        begun = time.perf_counter()
        logs = self.function(iterator)
        self.seconds.append(time.perf_counter() - begun)
        return logs


def main() -> None:
    """Measure and report."""
    parser = side_by_side.parser(__doc__, ["fit", "trainer"])
    parser.add_argument("--depth", type=int, default=22)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--steps", type=int, default=40, help="of an epoch")
    parser.add_argument("--rounds", type=int, default=6)
    arguments = parser.parse_args()
    data = Noise(arguments.batch_size, 32, arguments.steps)
    speeds: dict[str, list[tuple[float, float]]] = {"fit": [], "trainer": []}
    outside: dict[str, list[float]] = {"fit": [], "trainer": []}
    with tempfile.TemporaryDirectory() as folder:
        clocks = {"fit": Clock(), "trainer": Clock()}
        trainer = kd.Trainer(
            EPOCHS,
            default_root_dir=folder,
            callbacks=[clocks["trainer"]],
        )
        models = {name: _model(arguments) for name in speeds}
        for _ in range(arguments.rounds + 1):  # the first round builds the graph
            _bare(models["fit"], data, arguments.steps, clocks["fit"])
            trainer.fit(models["trainer"], data)
            for name, clock in clocks.items():
                speeds[name].append(clock.images_per_second(arguments.batch_size))
                outside[name].append(clock.outside_ms())
    bare_ms, ours_ms = (statistics.median(runs[1:]) for runs in outside.values())
    print(f"Outside of the step: {bare_ms:.2f} ms by fit, {ours_ms:.2f} ms by Trainer")
    side_by_side.report(
        "wrapper_overhead",
        f"Trainer.fit against model.fit, DenseNet-BC (L={arguments.depth}, "
        f"k={arguments.growth_rate}), batch {arguments.batch_size}",
        _rows({name: runs[1:] for name, runs in speeds.items()}),
        worker.versions(tensorflow=tf.__version__, keras=keras.__version__),
        arguments.output_dir,
    )


def _model(arguments) -> keras.Model:
    model = kd.DenseNetBC(arguments.depth, arguments.growth_rate)
    model.compile(
        kd.training.TorchSGD(0.01),
        "sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def _bare(model: keras.Model, data: Noise, steps: int, clock: Clock) -> None:
    data.setup("fit")
    model.fit(
        data.train_batches(0),
        epochs=EPOCHS,
        steps_per_epoch=steps,
        callbacks=[clock],
        verbose=0,
    )


def _rows(speeds: dict[str, list[tuple[float, float]]]) -> list[dict]:
    """Return medians, and the median of the ratios within each round."""
    rows = []
    for i, what in enumerate(("steps", "whole epochs")):
        bare = [run[i] for run in speeds["fit"]]
        ours = [run[i] for run in speeds["trainer"]]
        ratios = [mine / theirs for mine, theirs in zip(ours, bare, strict=True)]
        rows.append(
            {
                "variant": what,
                "model.fit, images/s": statistics.median(bare),
                "Trainer.fit, images/s": statistics.median(ours),
                "ratio": f"{statistics.median(ratios):.3f}",
                "ratios": f"{min(ratios):.3f} to {max(ratios):.3f}",
            }
        )
    return rows


if __name__ == "__main__":
    main()
