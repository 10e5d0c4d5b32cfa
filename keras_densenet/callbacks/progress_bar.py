"""What a person sees of a training."""

import time

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from keras_densenet.callbacks.limits import ENDLESS
from keras_densenet.callbacks.monitors import ThroughputMonitor


class ProgressBar(keras.callbacks.Callback):
    """A line an epoch, and in a terminal a live bar: images/s, time left, metrics.

    Args:
        throughput: The monitor that measures the speed; it is called before.
        console: Where to print; by default the terminal.
    """

    def __init__(
        self, throughput: ThroughputMonitor, console: Console | None = None
    ) -> None:
        super().__init__()
        self.throughput = throughput
        self.console = console or Console()
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
        """Show the bar."""
        self._task = self._bar.add_task("", epoch="", status="")
        self._bar.start()

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        """Start an empty bar."""
        self._epoch = epoch
        self._begin = time.perf_counter()
        label = f"{epoch + 1}{self._of_all()}"
        status = self._status({}) or "building the graph"
        steps = self.params["steps"]
        self._bar.reset(self._task, total=steps, epoch=label, status=status)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Advance, and show speed and metrics."""
        self._bar.update(self._task, completed=batch + 1, status=self._status(logs))

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Print the epoch's line."""
        seconds = time.perf_counter() - self._begin
        self.console.print(
            f"Epoch {epoch + 1:3d}{self._of_all()}  {_metrics(logs)}  {seconds:.0f} s",
            highlight=False,
            soft_wrap=True,
        )

    def on_train_end(self, logs: dict | None = None) -> None:
        """Take the bar away."""
        self._bar.stop()

    def _of_all(self) -> str:
        epochs = self.params["epochs"]
        return "" if epochs == ENDLESS else f"/{epochs}"

    def _status(self, logs: dict | None) -> str:
        speed = self.throughput.images_per_second
        if not speed:
            return _metrics(logs)
        if self.params["epochs"] == ENDLESS:
            return f"{speed:,.0f} images/s  {_metrics(logs)}"
        total = self.params["epochs"] * self.params["steps"]
        done = self._epoch * self.params["steps"] + self._bar.tasks[0].completed
        left = (total - done) * self.throughput.seconds_per_step
        return f"{speed:,.0f} images/s  {clock(left)} left  {_metrics(logs)}"


def clock(seconds: float) -> str:
    """Write a duration as a clock does.

    >>> clock(3725.4)
    '1:02:05'
    """
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def _metrics(logs: dict | None) -> str:
    return "  ".join(_metric(name, value) for name, value in (logs or {}).items())


def _metric(name: str, value: float) -> str:
    """Write a metric: in the fewest digits that tell it.

    >>> _metric("loss", 0.25), _metric("images_per_second", 1234.5)
    ('loss 0.2500', '1,234 images/s')
    """
    if name == "images_per_second":
        return f"{value:,.0f} images/s"
    if name == "learning_rate":
        return f"lr {value:.3g}"
    return f"{name} {value:.4f}"
