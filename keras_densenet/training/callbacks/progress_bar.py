"""What a person sees of a training."""

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn


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
