"""The folder that a run writes to."""

import csv
import os
from pathlib import Path

from keras_densenet.checkpoint_file import BEFORE_LAST, LAST
from keras_densenet.devices import Devices
from keras_densenet.whole_file import whole_file

CHECKPOINTS, CONFIG = "checkpoints", "config.yaml"  # within it
_PREFIX = "version_"


def run_folder(runs: Path, resumed_from: Path | None, epoch: int = 0) -> Path:
    """Return the folder of a run: a new one, or that of the run that goes on.

    Args:
        runs: Where the `version_N` folders of a network are.
        resumed_from: The checkpoint that the run goes on from, if any. If it is the
            last one of a run in `runs`, that run goes on in its folder.
        epoch: The number of epochs it has seen; the log keeps those.
    """
    folder = continued_folder(runs, resumed_from)
    if folder:
        _keep_epochs(folder / "metrics.csv", epoch)
        return folder
    return _next_version(runs)


def shared_run_folder(
    devices: Devices, runs: Path, resumed_from: Path | None, epoch: int
) -> Path:
    """Return what `run_folder` does; of several workers the first one makes it."""
    if devices.cluster is None:
        return run_folder(runs, resumed_from, epoch)
    goes_on = continued_folder(runs, resumed_from)
    made = run_folder(runs, resumed_from, epoch) if devices.is_first else None
    if goes_on:
        return goes_on
    number = version_of(made) if made else 0
    return folder_of(runs, devices.number_of_first(number))


def continued_folder(runs: Path, resumed_from: Path | None) -> Path | None:
    """Return the folder of the run that goes on, or None for a new one."""
    if resumed_from and resumed_from.name in (LAST, BEFORE_LAST):
        folder = resumed_from.parent.parent
        if folder.parent == runs:
            return folder
    return None


def run_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run that a checkpoint was written by, if it lies in one.

    >>> run_of(Path("elsewhere/weights.keras")) is None
    True
    """
    folder = checkpoint.parent.parent
    return folder if checkpoint.parent == folder / CHECKPOINTS else None


def folder_of(runs: Path, version: int) -> Path:
    """Return the folder of a run by its number."""
    return runs / f"{_PREFIX}{version}"


def version_of(folder: Path) -> int:
    """Return the number of a run by its folder."""
    return int(folder.name.removeprefix(_PREFIX))


def written(folder: Path) -> float:
    """Return the time at which a file of a folder was last written."""
    return max((path.stat().st_mtime for path in folder.iterdir()), default=0.0)


def _next_version(runs: Path) -> Path:
    runs.mkdir(parents=True, exist_ok=True)
    numbers = [
        int(name[len(_PREFIX) :])
        for name in os.listdir(runs)
        if name.startswith(_PREFIX) and name[len(_PREFIX) :].isdigit()
    ]
    number = max(numbers, default=-1) + 1
    while True:
        version = folder_of(runs, number)
        try:
            version.mkdir()
        except FileExistsError:  # another run began at the same moment
            number += 1
        else:
            return version


def _keep_epochs(metrics: Path, epochs: int) -> None:
    """Take epochs that will be trained once more out of a log."""
    if not metrics.exists():
        return
    with metrics.open(newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    whole = [row for row in rows if len(row) == len(header)]  # a kill may cut the last
    with whole_file(metrics) as beside, beside.open("w", newline="") as file:
        kept = [row for row in whole if int(row[0]) < epochs]
        csv.writer(file).writerows([header, *kept] if kept else [])
