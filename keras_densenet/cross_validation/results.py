"""What a cross-validation finds: each fold's metrics, and an answer to each picture."""

import csv
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.table import Table

from keras_densenet.analysis import write_probabilities
from keras_densenet.whole_file import whole_file


class FoldRecord(NamedTuple):
    """One fold.

    Attributes:
        fold: Its number, from 1.
        pictures: How many it has, which its network was validated on.
        checkpoint: The checkpoint that was: the best, where the run keeps one, else the
            last; None where it keeps none.
        metrics: Loss and metrics on these pictures, by name.
    """

    fold: int
    pictures: int
    checkpoint: Path | None
    metrics: dict[str, float]


@dataclass(frozen=True, eq=False)
class OutOfFold:
    """The answer to each picture of the network that was not trained on its fold.

    Pictures are in the data's own order, where the data have one: of `Arrays` that of
    the arrays.

    Attributes:
        probabilities: Of the classes, float `(N, classes)`.
        labels: Class numbers, int64 `(N,)`, of labels that are probabilities the most
            probable; or several labels, float32 `(N, classes)`: 1, 0, NaN for not
            known.
        folds: The number of each picture's fold, from 1, int64 `(N,)`.
        class_names: A name for each class.
        files: The path of each picture within the data's folder; None where there are
            no files.
        groups: What each picture belongs to, such as a patient, text `(N,)`; None where
            nothing belongs together.
    """

    probabilities: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    class_names: Sequence[str]
    files: Sequence[str] | None = None
    groups: np.ndarray | None = None

    def __len__(self) -> int:
        """Return the number of pictures."""
        return len(self.labels)


@dataclass(frozen=True, eq=False)
class CrossValidation:
    """The results of a cross-validation.

    Attributes:
        folder: Its folder, with `folds.csv`, `predictions.csv` and the run of each fold
            in a folder of its own, `fold_1` and so on.
        folds: The folds, ordered by number.
        predictions: The answers to all pictures that are not to test on.
    """

    folder: Path
    folds: list[FoldRecord]
    predictions: OutOfFold

    @cached_property
    def mean(self) -> dict[str, float]:
        """The mean of each metric over the folds, of which each counts the same."""
        return {name: float(np.mean(values)) for name, values in self._metrics.items()}

    @cached_property
    def std(self) -> dict[str, float]:
        """The sample standard deviation of each metric over the folds (n - 1)."""
        return {
            name: float(np.std(values, ddof=1))
            for name, values in self._metrics.items()
        }

    @cached_property
    def _metrics(self) -> dict[str, list[float]]:
        names = self.folds[0].metrics
        return {name: [record.metrics[name] for record in self.folds] for name in names}

    def table(self) -> Table:
        """Return each fold's metrics, their mean and their deviation, to print."""
        names = list(self.mean)
        table = Table(title=f"{len(self.folds)} folds", title_justify="left")
        for column in ("fold", "pictures", *names):
            table.add_column(column, justify="right")
        for record in self.folds:
            values = [f"{record.metrics[name]:.4f}" for name in names]
            table.add_row(str(record.fold), str(record.pictures), *values)
        table.add_section()
        for name, row in (("mean", self.mean), ("std", self.std)):
            table.add_row(name, "", *(f"{row[metric]:.4f}" for metric in names))
        return table


def write_folds(found: CrossValidation, path: str | os.PathLike) -> None:
    """Write the folds as CSV, a line for each, then their mean and deviation."""
    names = list(found.mean)
    with whole_file(path) as beside, beside.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["fold", "pictures", *names, "checkpoint"])
        for record in found.folds:
            values = [record.metrics[name] for name in names]
            where = record.checkpoint and record.checkpoint.relative_to(found.folder)
            writer.writerow([record.fold, record.pictures, *values, where])
        for name, row in (("mean", found.mean), ("std", found.std)):
            writer.writerow([name, "", *(row[metric] for metric in names), ""])


def write_out_of_fold(predictions: OutOfFold, path: str | os.PathLike) -> None:
    """Write the answers as CSV, a line for each picture."""
    facts = {
        "fold": predictions.folds,
        "group": predictions.groups,
        "file": predictions.files,
    }
    write_probabilities(
        path,
        predictions.probabilities,
        predictions.class_names,
        predictions.labels,
        facts,
    )
