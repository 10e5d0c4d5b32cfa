"""What the trainer adds to `model.fit`: checkpoints, the bar, agreeing replicas."""

import math
import os
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


class ModelCheckpoint(keras.callbacks.Callback):
    """Keep the last epoch's model, and the best one's, weights and optimizer.

    After each epoch:

        last.keras is replaced
        if the monitored metric is the best so far:
            epoch=012-val_accuracy=0.9431.keras is added, the best before it removed

    A file is written beside, checked and renamed, so that at any moment the files of
    the last whole epoch are there.

    Args:
        dirpath: Folder of the checkpoints; made when it is needed.
        monitor: Metric in Keras's logs that says which epoch is best.
        mode: "max" or "min": which of its values is best.

    Attributes:
        last_model_path: Path of the last checkpoint, "" before there is one.
        best_model_path: Path of the best, "" without the metric.
        best_model_score: The metric's value there, or None.
    """

    def __init__(
        self,
        dirpath: str | os.PathLike,
        monitor: str = "val_accuracy",
        mode: str = "max",
    ) -> None:
        super().__init__()
        self.dirpath = Path(dirpath)
        self.monitor = monitor
        self.mode = mode
        self.last_model_path = ""
        self.best_model_path = ""
        self.best_model_score: float | None = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Save the model of this epoch."""
        self.dirpath.mkdir(parents=True, exist_ok=True)
        last = self.dirpath / "last.keras"
        replace_whole(last, self.model.save)
        self.last_model_path = str(last)
        score = (logs or {}).get(self.monitor)
        if score is not None and self._is_best(score):
            self._keep_best(last, epoch, score)

    def _is_best(self, score: float) -> bool:
        if not math.isfinite(score):
            return False
        if self.best_model_score is None:
            return True
        better = score - self.best_model_score
        return better > 0 if self.mode == "max" else better < 0

    def _keep_best(self, last: Path, epoch: int, score: float) -> None:
        name = f"epoch={epoch + 1:03d}-{self.monitor}={score:.4f}.keras"
        replace_whole(self.dirpath / name, lambda beside: shutil.copyfile(last, beside))
        before, self.best_model_path = self.best_model_path, str(self.dirpath / name)
        self.best_model_score = float(score)
        if before and before != self.best_model_path:
            Path(before).unlink(missing_ok=True)


def replace_whole(path: Path, write: Callable[[Path], Any]) -> None:
    """Write a `.keras` file beside `path`, check it, and rename it to `path`."""
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(beside)
        with zipfile.ZipFile(beside) as archive:
            damaged = archive.testzip()
        if damaged:
            raise OSError(f"{beside} was not written whole: {damaged} is damaged.")
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


class AverageMovingStatistics(keras.callbacks.Callback):
    """Let all replicas of a strategy have the same moving statistics.

    Keras lets each replica update its own, from its own share of every batch, and saves
    the first replica's. So before each validation, and before each checkpoint, every
    weight that is not trained becomes its mean over the replicas.

    Args:
        strategy: The `tf.distribute.Strategy` that the model was made in.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        super().__init__()
        self.strategy = strategy

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Average before validation."""
        for weight in self.model.non_trainable_weights:
            values = self.strategy.experimental_local_results(weight.value)
            if values[0].dtype.is_floating:
                weight.assign(sum(value.numpy() for value in values) / len(values))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Average before the checkpoint, also where nothing is validated."""
        self.on_test_begin()


class ProgressBar(keras.callbacks.Callback):
    """A line an epoch, and in a terminal a live bar: images/s, time left, metrics.

    Images/s are of training steps alone, without the first, which builds the graph.

    Args:
        images_per_step: Pictures in a global batch.
        console: Where to print; by default the terminal.
    """

    def __init__(self, images_per_step: int, console: Console | None = None) -> None:
        super().__init__()
        self.images_per_step = images_per_step
        self.console = console or Console()
        self.images_per_second = 0.0
        self._bar = Progress(
            TextColumn("Epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[status]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )

    def on_train_begin(self, logs: dict | None = None) -> None:
        """Show the bar, and start the clock with the first finished step."""
        self._task = self._bar.add_task("", epoch="", status="")
        self._bar.start()
        self._steps = 0
        self._seconds = 0.0
        self._clock: float | None = None

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start an empty bar."""
        self._epoch = epoch
        self._begin = time.perf_counter()
        label = f"{epoch + 1}/{self.params['epochs']}"
        status = self._status({}) or "building the graph"
        steps = self.params["steps"]
        self._bar.reset(self._task, total=steps, epoch=label, status=status)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Advance, and show speed and metrics."""
        now = time.perf_counter()
        if self._clock is not None:
            self._steps += 1
            self._seconds += now - self._clock
            self.images_per_second = self._steps * self.images_per_step / self._seconds
        self._clock = now
        self._bar.update(self._task, completed=batch + 1, status=self._status(logs))

    def on_test_begin(self, logs: dict | None = None) -> None:
        """Keep validation out of the clock."""
        self._clock = None

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Print the epoch's line."""
        self._clock = None
        seconds = time.perf_counter() - self._begin
        self.console.print(
            f"Epoch {epoch + 1:3d}/{self.params['epochs']}  {_metrics(logs)}  "
            f"{self.images_per_second:,.0f} images/s  {seconds:.0f} s",
            highlight=False,
            soft_wrap=True,
        )

    def close(self) -> None:
        """Take the bar away, also when training was interrupted."""
        self._bar.stop()

    def _status(self, logs: dict | None) -> str:
        if not self._steps:
            return _metrics(logs)
        total = self.params["epochs"] * self.params["steps"]
        done = self._epoch * self.params["steps"] + self._bar.tasks[0].completed
        left = (total - done) * self._seconds / self._steps
        return (
            f"{self.images_per_second:,.0f} images/s  {clock(left)} left  "
            f"{_metrics(logs)}"
        )


def clock(seconds: float) -> str:
    """Write a duration as a clock does.

    >>> clock(3725.4)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _metrics(logs: dict | None) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
