"""What a search prints: which trial is running, how long it took, what is left."""

import time
from collections.abc import Sequence
from typing import Any

import keras
import keras_tuner
from keras_tuner.engine.trial import Trial
from rich.console import Console
from rich.progress import BarColumn, Progress as Bars, TextColumn, TimeElapsedColumn

from keras_densenet.callbacks.progress_bar import clock


class Progress:
    """Prints a line when a trial begins and one when it ends, and a bar between them.

    Args:
        trials: Number of trials that the whole search will run.
        epochs: Number of epochs of all these trials.
        done: Number of epochs that earlier processes have trained.
        scores: Scores of earlier processes' trials, with the trials' numbers.
        worker: Name of this process where there are several; each line begins with it.
        quiet: Whether to print nothing.
    """

    def __init__(
        self,
        trials: int,
        epochs: int,
        done: int = 0,
        *,
        scores: Sequence[tuple[float, int]] = (),
        worker: str = "",
        quiet: bool = False,
    ) -> None:
        self.console = Console(quiet=quiet)
        self.trials = trials
        self._name = f"{worker}: " if worker else ""
        self._left = epochs - done
        self._trained, self._begun = 0, time.monotonic()
        self._scores = list(scores)
        self._bars: Bars | None = None

    def begin(self, trial: Trial, epochs: int, parameters: int) -> None:
        """Print what is tried, and start the bar."""
        values = {
            name: value
            for name, value in trial.hyperparameters.values.items()
            if not name.startswith("tuner/")
        }
        listed = " ".join(f"{name}={shown(value)}" for name, value in values.items())
        self._say(
            f"Trial {int(trial.trial_id) + 1} of {self.trials}: {listed}, "
            f"{parameters:,} parameters, {epochs} epochs"
        )
        self._started = time.monotonic()
        self._bars = Bars(
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.completed}/{task.total} epochs"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=self.console,
            transient=True,
            disable=not self.console.is_terminal,
        )
        self._task = self._bars.add_task("training", total=epochs, left=self.left())
        self._bars.start()

    def epochs(self) -> keras.callbacks.Callback:
        """Return a callback that moves the bar after each epoch."""

        def moved(epoch: int, logs: dict[str, float]) -> None:
            self._trained += 1
            self._left -= 1
            if self._bars:
                self._bars.update(self._task, advance=1, left=self.left())

        return keras.callbacks.LambdaCallback(on_epoch_end=moved)

    def left(self) -> str:
        """Estimate how long the rest takes, from the epochs so far."""
        if not self._trained or self._left <= 0:
            return ""
        each = (time.monotonic() - self._begun) / self._trained
        return f"about {clock(each * max(0, self._left))} left"

    def end(self, trial: Trial, objective: keras_tuner.Objective) -> None:
        """Stop the bar, and print the trial's result and the best one so far."""
        if self._bars:
            self._bars.stop()
        took = clock(time.monotonic() - self._started)
        number = int(trial.trial_id) + 1
        if trial.score is None or trial.status != "COMPLETED":
            why = (trial.message or "no result").strip().splitlines()[-1]
            self._say(f"Trial {number} failed after {took}: {why}")
            return
        sign = 1 if objective.direction == "max" else -1
        self._scores.append((trial.score, number))
        score, best = max(self._scores, key=lambda pair: sign * pair[0])
        self._say(
            f"Trial {number}: {objective.name} {trial.score:.4f} in {took}; best "
            f"{score:.4f} (trial {best}); {self.left() or 'the last one'}"
        )

    def _say(self, line: str) -> None:
        self.console.print(self._name + line, highlight=False, soft_wrap=True)


def shown(value: Any) -> str:
    """Write a value with few digits.

    >>> shown(0.0123456), shown(12), shown(True)
    ('0.0123', '12', 'True')
    """
    return f"{value:.3g}" if isinstance(value, float) else str(value)
