"""What a person reads before and after a training."""

import math
import time

import keras
from rich.console import Console
from rich.table import Table

from keras_densenet.analysis.profile import LayerCost, Profile, profile
from keras_densenet.callbacks import ModelCheckpoint, ThroughputMonitor
from keras_densenet.callbacks.progress_bar import clock
from keras_densenet.callbacks.run import Run
from keras_densenet.data.raw_arrays import KINDS
from keras_densenet.devices import Devices

MOST_ROWS = 30
_UNITS = ("", "K", "M", "G", "T")


class Screen:
    """Prints a trainer's lines: whole ones, so that a pipe can read them.

    Args:
        quiet: Whether to print nothing, as where another process prints.
    """

    def __init__(self, quiet: bool = False) -> None:
        self.console = Console(quiet=quiet)

    def say(self, line: str) -> None:
        """Print a line, however long."""
        self.console.print(line, highlight=False, soft_wrap=True)

    def say_if(self, line: str) -> None:
        """Print a line, unless it is empty."""
        if line:
            self.say(line)

    def metrics(self, stage: str, metrics: dict[str, float]) -> None:
        """Print a table of metrics."""
        table = Table("metric", stage)
        for name, value in metrics.items():
            table.add_row(name, f"{value:.4f}")
        self.console.print(table)

    def summary(self, model: keras.Model) -> None:
        """Print what a network is made of, by its outermost layers, and what it costs.

        It becomes `model.summary()`, in short.
        """
        try:
            costs = profile(model)
        except ValueError:  # a size is free, or the model is not made of layers
            trainable = sum(math.prod(w.shape) for w in model.trainable_weights)
            self.say(f"{model.name}: {trainable:,} trainable parameters")
            return
        self.console.print(_table(model.name, costs.layers))
        self.say(
            f"{costs.trainable_parameters:,} trainable parameters, "
            f"{costs.parameters - costs.trainable_parameters:,} others; "
            f"{short(costs.multiply_adds)} multiply-adds "
            f"a {_called(costs)}"
        )
        self.say(_memory(costs))

    def end(
        self,
        run: Run,
        begun: float,
    ) -> None:
        """Print where everything is, and how long it took.

        Args:
            run: It has ended.
            begun: What `time.perf_counter()` returned when it began.
        """
        folder, checkpoint = run.folder, run.first(ModelCheckpoint)
        if checkpoint and checkpoint.best_model_path:
            score = f"{checkpoint.monitor} {checkpoint.best_model_score:.4f}"
            self.say(f"Best checkpoint: {checkpoint.best_model_path} ({score})")
        elif checkpoint:
            self.say(f"Best checkpoint: none, as there is no {checkpoint.monitor}")
        if checkpoint and checkpoint.last_model_path:
            self.say(f"Last checkpoint: {checkpoint.last_model_path}")
        if folder and (folder / "curves.png").exists():
            self.say(f"Learning curves: {folder / 'curves.png'}")
        if folder and (folder / "train").exists():
            self.say(f"TensorBoard:     tensorboard --logdir {folder}")
        took = clock(time.perf_counter() - begun)
        throughput = run.first(ThroughputMonitor)
        speed = throughput.images_per_second if throughput else 0
        self.say(f"Took {took}, {speed:,.0f} images/s in training")


def _table(name: str, layers: list[LayerCost]) -> Table:
    table = Table(title=name, title_justify="left", box=None, pad_edge=False)
    for column in ("layer", "type"):
        table.add_column(column)
    table.add_column("output", no_wrap=True)  # a volume's shape is wide
    for column in ("parameters", "multiply-adds"):
        table.add_column(column, justify="right")
    for layer in layers[:MOST_ROWS]:
        table.add_row(*_row(layer))
    if len(layers) > MOST_ROWS:
        table.add_row(f"... {len(layers) - MOST_ROWS} more")
    return table


def _row(layer: LayerCost) -> tuple[str, ...]:
    shape = " x ".join(str(size) for size in layer.output_shape[1:])
    parameters = f"{layer.parameters:,}" if layer.parameters else ""
    multiply_adds = "" if layer.multiply_adds == 0 else short(layer.multiply_adds)
    return layer.name, layer.kind, shape, parameters, multiply_adds


def _called(costs: Profile) -> str:
    """Return what the network reads: a signal, a picture or a volume."""
    rank = len(costs.layers[0].output_shape) - 2
    return KINDS[rank].one if rank in KINDS else "picture"


def _memory(costs: Profile) -> str:
    by_mode = [costs.training_bytes(mode) / 1e6 for mode in (False, True, "full")]
    if len(set(by_mode)) == 1:
        return f"Training takes about {by_mode[0]:.3g} MB a {_called(costs)}"
    plain, some, full = by_mode
    return (
        f"Training takes about {plain:.3g} MB a {_called(costs)}, {some:.3g} with "
        f'memory_efficient=True, {full:.3g} with "full"'
    )


def short(number: int | None) -> str:
    """Write a large number in few digits.

    >>> short(7_978_856), short(12), short(None)
    ('7.98 M', '12', 'unknown')
    """
    if number is None:
        return "unknown"
    power = min(int(math.log10(number)) // 3, len(_UNITS) - 1) if number else 0
    return f"{number / 1000**power:.3g} {_UNITS[power]}".strip()


def device_line(devices: Devices, batch_size: int, steps: int) -> str:
    """Return the line that says on what and how is trained."""
    strategy, number = devices.strategy, devices.replicas
    kind = type(strategy).__name__ if strategy else "one device"
    replicas = f"{number} replica{'s' * (number > 1)}"
    faster = "; bf16-mixed is faster on this processor" * devices.gain_by_bfloat16
    return (
        f"{kind}, {replicas}, {devices.precision}, global batch {batch_size}, "
        f"{steps} steps an epoch{faster}"
    )
