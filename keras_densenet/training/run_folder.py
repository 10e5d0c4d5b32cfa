"""The folder that a run writes to."""

import csv
import os
import re
from pathlib import Path

import keras

from keras_densenet.checkpoint_file import BEFORE_LAST, LAST, latest_whole
from keras_densenet.devices import Devices
from keras_densenet.training.run_config import CONFIG, run_in
from keras_densenet.whole_file import whole_file

CHECKPOINTS = "checkpoints"  # within it
_PREFIX = "version_"


def shared_run_folder(devices: Devices, runs: Path, goes_on_in: Path | None) -> Path:
    """Return the folder of a run; of several workers the first one makes it.

    Args:
        devices: What trains.
        runs: Where the `version_N` folders of a network are.
        goes_on_in: The folder of the run that goes on; None for a new one.
    """
    if goes_on_in:
        return goes_on_in
    if devices.cluster is None:
        return _next_version(runs)
    number = version_of(_next_version(runs)) if devices.is_first else 0
    return folder_of(runs, devices.number_of_first(number))


def continued_folder(
    runs: Path, resumed_from: Path | None, run: str | None
) -> Path | None:
    """Return the folder of the run that goes on, or None for a new one.

    Args:
        runs: Where the `version_N` folders of a network are.
        resumed_from: The checkpoint that is gone on from, or None. If it is the last
            one of a run in `runs`, that run goes on in its folder.
        run: The number of the checkpoint's run, where it is known: its checkpoints may
            lie elsewhere.
    """
    if resumed_from is None or resumed_from.name not in (LAST, BEFORE_LAST):
        return None
    folder = run_of(resumed_from)
    if folder and folder.parent.resolve() == runs.resolve():
        return folder
    same = (each for each in runs.glob(f"{_PREFIX}*") if run and run_in(each) == run)
    return next(same, None)


def run_of(checkpoint: Path) -> Path | None:
    """Return the folder of the run that a checkpoint was written by, if it lies in one.

    >>> run_of(Path("elsewhere/weights.keras")) is None
    True
    """
    folder = checkpoint.parent.parent
    return folder if checkpoint.parent == folder / CHECKPOINTS else None


def name_of(model: keras.Model) -> str:
    """Return a model's name, without the number that Keras adds in each process.

    A model without a name of its own is then found again by the next one like it.

    >>> [name_of(keras.Sequential()) for _ in range(2)]
    ['sequential', 'sequential']
    >>> name_of(keras.Sequential(name="ours_2"))
    'ours_2'
    """
    plain = re.sub(r"_\d+$", "", model.name)
    given_by_keras = plain.replace("_", "") == type(model).__name__.lower()
    return plain if given_by_keras else model.name


def is_run(folder: Path) -> bool:
    """Return whether a folder is of a run: one of before has no number."""
    return run_in(folder) is not None or (folder / CHECKPOINTS).is_dir()


def folder_of(runs: Path, version: int) -> Path:
    """Return the folder of a run by its number."""
    return runs / f"{_PREFIX}{version}"


def version_of(folder: Path) -> int:
    """Return the number of a run by its folder."""
    return int(folder.name.removeprefix(_PREFIX))


def latest_first(runs: Path) -> list[Path]:
    """Return the folders of runs: first the one that saved last, or began last."""
    folders = [folder for folder in runs.glob(f"{_PREFIX}*") if folder.is_dir()]
    return sorted(folders, key=_latest, reverse=True)


def latest_checkpoint(root: Path) -> Path | None:
    """Return the last whole checkpoint of the runs in a `default_root_dir`.

    Args:
        root: The folder that `runs` is in, if there are any.
    """
    folders = root.glob(f"runs/*/{_PREFIX}*/{CHECKPOINTS}")
    for folder in sorted(folders, key=lambda f: f.stat().st_mtime, reverse=True):
        last, _ = latest_whole(folder)
        if last:
            return last
    return None


def _latest(folder: Path) -> float:
    """Return when a run saved last; where it has not, when it began."""
    saved = list((folder / CHECKPOINTS).glob("*.keras"))
    begun = [path for path in (folder / CONFIG, folder) if path.exists()][:1]
    return max(path.stat().st_mtime for path in saved or begun)


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


def keep_epochs(metrics: Path, epochs: int) -> None:
    """Take epochs that will be trained once more out of a log."""
    if not metrics.exists():
        return
    with metrics.open(newline="") as file:
        header, *rows = list(csv.reader(file)) or [[]]
    whole = [row for row in rows if len(row) == len(header)]  # a kill may cut the last
    with whole_file(metrics) as beside, beside.open("w", newline="") as file:
        kept = [row for row in whole if int(row[0]) < epochs]
        csv.writer(file).writerows([header, *kept] if kept else [])
