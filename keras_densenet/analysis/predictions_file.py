"""A table of what a network takes pictures for, which a spreadsheet reads."""

import csv
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from keras_densenet.whole_file import whole_file


def write_predictions(
    path: str | os.PathLike,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    files: Mapping[int, str] | None = None,
    top_k: int = 1,
) -> Path:
    """Write a CSV file with a row for each picture.

    Its columns are `picture` (a number from 0), `class` and `probability`, then `file`
    where there are files, then `class_2`, `probability_2` and so on up to `top_k`. A
    name that is no UTF-8 is written with backslashes.

    Args:
        path: Of the file, in UTF-8.
        probabilities: Of the classes, `(N, classes)`.
        class_names: A name for each class.
        files: The pictures' files, by their numbers, as `DataModule.predict_files`
            returns them; there may be more than N. None for no files.
        top_k: How many of the most probable classes are named, 1 or more.

    Returns:
        The path.
    """
    if np.ndim(probabilities) != 2 or probabilities.shape[1] != len(class_names):
        raise ValueError(
            "A table of predictions needs probabilities (N, classes), with a name for "
            f"each class. Received: probabilities {np.shape(probabilities)}, "
            f"{len(class_names)} class names"
        )
    if files is not None and len(files) < len(probabilities):
        raise ValueError(
            f"There are {len(probabilities)} pictures and {len(files)} files: give the "
            "file of each, as predict_files() of the data does."
        )
    ranks = range(1, min(top_k, len(class_names)) + 1)
    more = [f"{what}_{k}" for k in ranks[1:] for what in ("class", "probability")]
    named = ["file"] if files is not None else []
    path = Path(path)
    with (
        whole_file(path) as beside,
        open(
            beside, "w", encoding="utf-8", errors="backslashreplace", newline=""
        ) as file,
    ):
        table = csv.writer(file, lineterminator="\n")
        table.writerow(["picture", "class", "probability", *named, *more])
        numbers = range(len(probabilities)) if files is None else files
        # With a limit of batches there are fewer answers than files.
        for number, row in zip(numbers, probabilities, strict=False):
            order = np.argsort(-row, kind="stable")[: len(ranks)]
            answers = [(class_names[n], f"{row[n]:.6f}") for n in order]
            of_file = [files[number]] if files is not None else []
            rest = [cell for answer in answers[1:] for cell in answer]
            table.writerow([number, *answers[0], *of_file, *rest])
    return path
