"""The learning rate range test (Smith 2017, arXiv 1506.01186)."""

import math
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
from matplotlib.figure import Figure
from numpy.lib.stride_tricks import sliding_window_view

SMOOTHING = 0.98  # Lightning's and fastai's
LEAST_POINTS = 3  # for a slope


@dataclass(frozen=True)
class LRFinder:
    """What a range test has seen.

    Attributes:
        results: "lr", the rates in the order in which they were tried, and "loss", the
            smoothed loss at each; all finite.
    """

    results: dict[str, list[float]]

    def suggestion(self, skip_begin: int = 10, skip_end: int = 1) -> float | None:
        """Return the rate where the loss falls most steeply against its logarithm.

        The slope at a point is that of the line fitted to the fifth of the points
        around it. Lightning takes the two neighbours', which are noise of the batches
        wherever the loss falls by little from one to the next.

        Args:
            skip_begin: Points to leave out at the beginning, where the smoothed loss is
                of few batches.
            skip_end: Points to leave out at the end, where the loss diverges.

        Returns:
            The rate, or None, with a warning that says why, where fewer than three
            points are left or the loss falls nowhere.

        Examples:
            >>> lr, loss = [0.001, 0.01, 0.1, 1.0], [4.0, 3.0, 1.0, 9.0]
            >>> LRFinder({"lr": lr, "loss": loss}).suggestion(skip_begin=0)
            0.01
        """
        point = self._steepest(skip_begin, skip_end)
        if point is not None:
            return self.results["lr"][point]
        rates = self._kept("lr", skip_begin, skip_end)
        if len(rates) < LEAST_POINTS:
            reason = (
                f"{len(rates)} of {len(self.results['lr'])} points are left after "
                f"skip_begin={skip_begin} and skip_end={skip_end}, and {LEAST_POINTS} "
                "are needed. Raise num_training, or lower max_lr"
            )
        else:
            reason = (
                f"the loss falls nowhere from {rates[0]:.3g} to {rates[-1]:.3g}. Try "
                "another min_lr and max_lr, and look at plot()"
            )
        warnings.warn(f"No learning rate to suggest: {reason}.", stacklevel=2)
        return None

    def plot(
        self, path: str | os.PathLike | None = None, suggest: bool = True
    ) -> Figure:
        """Draw the loss against the rate, up to where it has risen again.

        Args:
            path: Where to save it; its ending, such as `.png`, says the format. None
                saves nothing.
            suggest: Whether to mark the suggestion, if there is one.

        Returns:
            The figure.
        """
        figure = Figure(figsize=(6, 4), layout="constrained")
        axis = figure.subplots()
        rates, losses = self.results["lr"], self.results["loss"]
        axis.plot(rates, losses)
        point = self._steepest()
        if point is not None:
            _show_the_fall(axis, losses, point)
        if point is not None and suggest:
            label = f"suggestion: {rates[point]:.3g}"
            axis.plot(rates[point], losses[point], "o", color="tab:red", label=label)
            axis.legend()
        axis.set(xscale="log", xlabel="learning rate", ylabel="loss, smoothed")
        axis.grid(alpha=0.3)
        if path is not None:
            figure.savefig(path, dpi=120)
        return figure

    def _steepest(self, skip_begin: int = 10, skip_end: int = 1) -> int | None:
        """Return the number of the point that is suggested."""
        rates = self._kept("lr", skip_begin, skip_end)
        if len(rates) < LEAST_POINTS:
            return None
        losses = self._kept("loss", skip_begin, skip_end)
        beside = max(1, len(rates) // 10)  # points on either side
        slopes = _fitted_slopes(np.log(rates), np.array(losses), 2 * beside + 1)
        steepest = int(np.argmin(slopes))
        return skip_begin + beside + steepest if slopes[steepest] < 0 else None

    def _kept(self, name: str, skip_begin: int, skip_end: int) -> list[float]:
        values = self.results[name]
        return values[skip_begin : max(skip_begin, len(values) - skip_end)]


def _show_the_fall(axis: Any, losses: list[float], point: int) -> None:
    """Cut off where it diverges, which can be many times as high as it falls.

    Args:
        axis: Drawn on.
        losses: All of them.
        point: Number of the one that is suggested.
    """
    last = point + int(np.argmin(losses[point:]))  # where it has fallen
    low, high = min(losses), max(losses[: last + 1])
    axis.set_ylim(low - 0.1 * (high - low), high + 0.5 * (high - low))


def _fitted_slopes(x: np.ndarray, y: np.ndarray, points: int) -> np.ndarray:
    """Return the least-squares slope of each so many points that follow each other."""
    x, y = sliding_window_view(x, points), sliding_window_view(y, points)
    x = x - x.mean(axis=1, keepdims=True)
    return (x * y).sum(axis=1) / (x * x).sum(axis=1)


class RangeTest(keras.callbacks.Callback):
    """Train each optimizer step with the next learning rate, and note the loss.

    The loss is smoothed: its exponential average with a factor of 0.98, divided by what
    the factors add up to (as Adam corrects its moments).

    Args:
        rates: One for each optimizer step.
        early_stop_threshold: It ends where the smoothed loss is above this multiple of
            its least; None to go on. A loss that is not a number ends it always.
        batches_per_rate: Batches of an optimizer step.

    Attributes:
        results: "lr" and "loss".
        stopped: Whether it is to end before the last rate; set it to end it.
    """

    def __init__(
        self,
        rates: Sequence[float],
        early_stop_threshold: float | None = 4.0,
        batches_per_rate: int = 1,
    ) -> None:
        super().__init__()
        self.rates = rates
        self.early_stop_threshold = early_stop_threshold
        self.batches_per_rate = batches_per_rate
        self.results: dict[str, list[float]] = {"lr": [], "loss": []}
        self.stopped = False
        self._average = 0.0
        self._best = math.inf

    def on_train_batch_begin(self, batch: int, logs: dict | None = None) -> None:
        """Set the rate."""
        number, rest = divmod(batch, self.batches_per_rate)
        if rest == 0:
            self.model.optimizer.learning_rate = self.rates[number]
            self.model.reset_metrics()  # Keras's loss is the mean since then

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        """Note the loss."""
        number, rest = divmod(batch + 1, self.batches_per_rate)
        if rest == 0:
            self._note(self.rates[number - 1], (logs or {})["loss"])
        if self.stopped:
            self.model.stop_training = True

    def _note(self, rate: float, loss: float) -> None:
        seen = len(self.results["loss"]) + 1
        self._average = SMOOTHING * self._average + (1 - SMOOTHING) * loss
        smoothed = self._average / (1 - SMOOTHING**seen)
        if not math.isfinite(smoothed):
            self.stopped = True
            return
        self.results["lr"].append(rate)
        self.results["loss"].append(smoothed)
        self._best = min(self._best, smoothed)
        threshold = self.early_stop_threshold
        if threshold is not None and smoothed > threshold * self._best:
            self.stopped = True


def learning_rates(
    min_lr: float, max_lr: float, num_training: int, mode: str
) -> list[float]:
    """Return the rates of a range test, both ends among them.

    >>> learning_rates(1.0, 5.0, 3, "linear")
    [1.0, 3.0, 5.0]
    >>> learning_rates(1.0, 4.0, 3, "exponential")
    [1.0, 2.0, 4.0]
    """
    spaced = np.linspace if mode == "linear" else np.geomspace
    return spaced(min_lr, max_lr, num_training).tolist()


def constant_rate(optimizer: Any, rate: float) -> keras.optimizers.Optimizer:
    """Return a copy of an optimizer without its schedule, whose rate can be set.

    Args:
        optimizer: What `configure_optimizer` gives: an optimizer or Keras's name of it.
        rate: To begin with.
    """
    optimizer = keras.optimizers.get(optimizer)
    inner = getattr(optimizer, "inner_optimizer", None)
    config = optimizer.get_config()
    if inner is None:
        config["learning_rate"] = rate
    else:  # a loss scale optimizer has its inner one's rate
        plain = constant_rate(inner, rate)
        config["inner_optimizer"] = keras.saving.serialize_keras_object(plain)
    return type(optimizer).from_config(config)
