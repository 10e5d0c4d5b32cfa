"""What a network takes pictures for: a table for a spreadsheet, or masks."""

import csv
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pandas as pd

from keras_densenet.data.mask_files import mask_picture
from keras_densenet.whole_file import whole_file

Column: TypeAlias = tuple[str, Any]  # its name and its values


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
    _refuse_other_rows(probabilities, class_names, files)
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


def write_probabilities(
    path: str | os.PathLike,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    labels: np.ndarray,
    facts: Mapping[str, Sequence | np.ndarray | None],
) -> Path:
    """Write a CSV file with a row for each picture, and every probability.

    Its columns are `picture` (a number from 0), those of `facts`, then `label` and
    `class`, the names of what a picture is and of what is most probable, and
    `probability of <class>` for each class. Where pictures may have several labels
    there is `<class>`, 1, 0 or nothing for not known, before each probability instead.
    Numbers of float32 are read again as they were. A name that is no UTF-8 is written
    with backslashes.

    Args:
        path: Of the file, in UTF-8.
        probabilities: Of the classes, `(N, classes)`.
        class_names: A name for each class.
        labels: Class numbers `(N,)`, or several labels `(N, classes)`: 1, 0, NaN.
        facts: What else is known of each picture, by the name of its column; None for
            no column.

    Returns:
        The path.
    """
    columns: list[Column] = [
        (name, fact) for name, fact in facts.items() if fact is not None
    ]
    several = labels.ndim == 2
    if not several:
        named = np.array(class_names, object)
        columns += [("label", named[labels]), ("class", named[probabilities.argmax(1)])]
    marks = labels if several else None
    columns += _of_classes(probabilities, class_names, marks)
    return _written(Path(path), columns, range(len(probabilities)))


def write_label_answers(
    path: str | os.PathLike,
    probabilities: np.ndarray,
    class_names: Sequence[str],
    files: Mapping[int, str] | None = None,
    given: np.ndarray | None = None,
) -> Path:
    """Write a CSV file of pictures that may have several labels, a row for each.

    Its columns are `picture` (a number from 0), `file` where there are files, and for
    each label `<label>`, 1 where it is given and 0 where not, and
    `probability of <label>`.

    Args:
        path: Of the file, in UTF-8.
        probabilities: Of the labels, `(N, classes)`.
        class_names: A name for each label.
        files: The pictures' files, by their numbers, as `DataModule.predict_files`
            returns them; there may be more than N. None for no files.
        given: Whether each label is given, `(N, classes)`, as `Decisions.given` says;
            None for probabilities alone.

    Returns:
        The path.
    """
    _refuse_other_rows(probabilities, class_names, files)
    many = len(probabilities)
    # With a limit of batches there are fewer answers than files.
    numbers = list(range(many) if files is None else files)[:many]
    columns: list[Column] = []
    if files is not None:
        columns.append(("file", [files[number] for number in numbers]))
    columns += _of_classes(probabilities, class_names, given)
    return _written(Path(path), columns, numbers)


def _refuse_other_rows(
    probabilities: np.ndarray,
    class_names: Sequence[str],
    files: Mapping[int, str] | None,
) -> None:
    if np.ndim(probabilities) != 2 or probabilities.shape[1] != len(class_names):
        raise ValueError(
            "A table of predictions needs probabilities (N, classes), with a name for "
            f"each class. Received: probabilities {np.shape(probabilities)}, "
            f"{len(class_names)} class names"
        )
    _refuse_too_few_files(probabilities, files)


def _refuse_too_few_files(
    probabilities: np.ndarray, files: Mapping[int, str] | None
) -> None:
    if files is not None and len(files) < len(probabilities):
        raise ValueError(
            f"There are {len(probabilities)} pictures and {len(files)} files: give the "
            "file of each, as predict_files() of the data does."
        )


def _of_classes(
    probabilities: np.ndarray, class_names: Sequence[str], marks: np.ndarray | None
) -> Iterator[Column]:
    """Iterate over the columns of each class: 1, 0 or nothing, and its probability.

    Args:
        probabilities: `(N, classes)`.
        class_names: A name for each class.
        marks: 1, 0 and NaN, or True and False, `(N, classes)`; None for no column.
    """
    for n, name in enumerate(class_names):
        if marks is not None:
            yield name, pd.array(marks[:, n].astype(float), "Int8")
        yield f"probability of {name}", probabilities[:, n]


def _written(
    path: Path,
    columns: Sequence[Column],
    numbers: Sequence[int],
) -> Path:
    """Write columns, of which several may have the same name."""
    names, values = zip(*columns, strict=True)
    table = pd.concat([pd.Series(it) for it in values], axis=1, keys=range(len(names)))
    table.columns = names
    table.index = pd.Index(numbers)
    with whole_file(path) as beside:
        table.to_csv(
            beside,
            index_label="picture",
            float_format="%.9g",
            errors="backslashreplace",
            lineterminator="\n",
        )
    return path


def write_class_maps(
    folder: str | os.PathLike,
    probabilities: np.ndarray,
    files: Mapping[int, str] | None = None,
) -> Path:
    """Write the most probable class of each pixel, a palette PNG for each picture.

    Pixels are class numbers, as in a mask that `MaskFolder` reads. A file has the
    picture's number and its name, as in 00003-street.png: no picture is overwritten.

    Args:
        folder: Where to write; it is made.
        probabilities: `(N, H, W, classes)`.
        files: The pictures' files, by their numbers, as `DataModule.predict_files`
            returns them; there may be more than N. None for no files.

    Returns:
        The folder.

    Raises:
        ValueError: They are of signals or volumes, there are fewer files than pictures,
            or the folder has other pictures.
    """
    if np.ndim(probabilities) != 4:
        raise ValueError(
            "Class maps are written as pictures, of probabilities (N, H, W, classes). "
            f"Received: shape {np.shape(probabilities)}. Of signals and volumes save "
            "probabilities.argmax(-1) with numpy.save."
        )
    _refuse_too_few_files(probabilities, files)
    folder, many = Path(folder), len(probabilities)
    if files is None:
        names = [f"{number:05d}.png" for number in range(many)]
    else:
        numbered = list(files.items())[:many]
        names = [f"{number:05d}-{Path(file).stem}.png" for number, file in numbered]
    others = sorted({path.name for path in folder.glob("*.png")} - {*names})
    if others:
        raise ValueError(
            f"{folder} has pictures that were there before, such as {others[0]}: name "
            "another folder, or take them away."
        )
    folder.mkdir(parents=True, exist_ok=True)
    for name, shares in zip(names, probabilities, strict=True):
        with whole_file(folder / name) as beside:
            mask_picture(shares.argmax(-1)).save(beside, "PNG")
    return folder
