"""Batches in files, which trainings in several frameworks read in the same order.

A folder has `images.npy` (steps, N, H, W, 3) and `labels.npy` (steps, N) to train on,
one row a step; `test_images.npy` and `test_labels.npy`; and `weights.pth`, the weights
that every training begins with, in PyTorch's format. Pictures are standardized, and
float32.
"""

import argparse
import itertools
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import worker

TESTED_AT_ONCE = 500
WEIGHTS = "weights.pth"


class Pictures(NamedTuple):
    """Pictures and their classes, read from the disk as they are asked for."""

    images: np.ndarray
    labels: np.ndarray


def read(folder: Path, split: str = "") -> Pictures:
    """Return the batches, or with `split="test_"` the test pictures."""
    return Pictures(
        *(np.load(folder / f"{split}{part}.npy", "r") for part in Pictures._fields)
    )


def write(
    folder: Path, batches: Iterable[tuple[np.ndarray, np.ndarray]], steps: int
) -> None:
    """Write batches, one at a time: all of them may not fit the memory."""
    files: list[np.ndarray] = []
    for step, batch in enumerate(batches):
        if not files:
            files = [
                np.lib.format.open_memmap(
                    folder / f"{part}.npy", "w+", array.dtype, (steps, *array.shape)
                )
                for part, array in zip(Pictures._fields, batch, strict=True)
            ]
        for file, array in zip(files, batch, strict=True):
            file[step] = array
    for file in files:
        file.flush()


def serve(
    arguments: argparse.Namespace,
    train: Callable[[np.ndarray, np.ndarray], float],
    classes: Callable[[np.ndarray], np.ndarray],
    versions: dict[str, str],
) -> None:
    """Train on the batches in turn, as many as each line of the input asks for.

    Prints `{"versions"}` first, then for each line `{"losses"}`, one a step, and with
    the last batch also `{"test_error"}`, in percent.

    Args:
        arguments: Those of the command line, with the folder.
        train: Takes a step on pictures and labels, and returns the loss before it.
        classes: Returns the most likely class of each picture.
        versions: Of the libraries.
    """
    folder = Path(arguments.folder)
    batches = read(folder)
    steps = iter(range(len(batches.labels)))
    worker.say(versions=versions)
    for line in sys.stdin:
        now = list(itertools.islice(steps, int(line)))
        losses = [train(*(np.array(part[step]) for part in batches)) for step in now]
        answer: dict = {"losses": losses}
        if now and now[-1] == len(batches.labels) - 1:
            answer["test_error"] = test_error(read(folder, "test_"), classes)
        worker.say(**answer)


def test_error(test: Pictures, classes: Callable) -> float:
    """Return how many of the test pictures are taken for others, in percent."""
    wrong = sum(
        int((classes(images) != labels).sum()) for images, labels in _in_parts(test)
    )
    return 100 * wrong / len(test.labels)


def _in_parts(test: Pictures) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for first in range(0, len(test.labels), TESTED_AT_ONCE):
        part = slice(first, first + TESTED_AT_ONCE)
        yield np.array(test.images[part]), test.labels[part]
