"""A table of pictures and their labels: CSV, also compressed, or a pandas frame.

one class a row      file, class
names joined         file, "Effusion|Mass"             as of ChestX-ray14
a column a label     file, 1, 0, -1 or nothing, ...    as of CheXpert
"""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias

import numpy as np

from keras_densenet.data.folder_layout import SPLITS
from keras_densenet.data.groups import (
    group_pattern,
    groups_in,
    refuse_groups_in_two_splits,
)
from keras_densenet.data.preparation import DataUnavailableError
from keras_densenet.errors import few

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "str | os.PathLike | pd.DataFrame"
Unknown: TypeAlias = Literal["mask", "positive", "negative"]

UNKNOWN = {"mask": np.nan, "positive": 1.0, "negative": 0.0}
FIRST_LINE = 2  # of a file's rows, after that of the columns' names


class TableError(DataUnavailableError):
    """The table is not what it is said to be; the error names rows."""


class LabelTable(NamedTuple):
    """The rows of a table.

    Attributes:
        files: What the table calls each picture's file, text `(N,)`.
        labels: Class numbers, int64 `(N,)`; or, where a picture may have several
            labels, float32 `(N, classes)`: 1 where it has one, 0 where it has not, NaN
            where that is not known.
        class_names: Names of the classes.
        groups: What belongs together in one split, such as a patient, text `(N,)`; None
            where nothing does.
        splits: "train", "val" or "test", text `(N,)`; None where the table does not
            say.
    """

    files: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    groups: np.ndarray | None = None
    splits: np.ndarray | None = None


def read_label_table(
    table: Table,
    *,
    file: str,
    labels: str | Sequence[str],
    separator: str | None = None,
    none: str | None = None,
    uncertain: Unknown = "mask",
    blank: Unknown = "mask",
    classes: Sequence[str] | None = None,
    group: str | None = None,
    split: str | Mapping[str, str | os.PathLike] | None = None,
) -> LabelTable:
    r"""Read a table of pictures and their labels.

    Args:
        table: Path of a CSV file, also compressed, or a frame of pandas.
        file: Name of the column of the pictures' files.
        labels: Name of the column of classes, or of names joined by `separator`; or the
            names of the columns that are a label each.
        separator: Between names in one column; None for one class a row.
        none: The name that means no label at all, such as "No Finding".
        uncertain: What -1 in a label's column means: not known ("mask"), yes, or no.
        blank: What an empty field of it means, likewise.
        classes: Names of the classes, in the order of their numbers; None for those
            that there are, sorted. Of columns the names are theirs.
        group: Name of the column of what belongs together; or a pattern that finds it
            in a file's path, in its parentheses, such as r"(patient\d+)".
        split: Name of the column with "train", "val" or "test"; or the paths of lists
            of files, one a line, by the name of their split: all others are to train
            on.

    Raises:
        TableError: A column is missing, a field is empty, a file is there twice, a
            label is unknown, or nobody has it. The error names rows.
        ValueError: Options do not go together with how the labels are written.
    """
    of_columns = not isinstance(labels, str)
    _refuse_options(of_columns, separator, none, classes, uncertain, blank)
    rows = _Rows(table)
    files = rows.texts(file)
    rows.refuse(_repeated(files), f"the same {file} as another row", files)
    if isinstance(labels, str):
        names = rows.texts(labels)
        if separator is None:
            found = _one_class(rows, names, labels, classes)
        else:
            found = _joined(rows, names, labels, separator, none, classes)
    else:
        found = _columns(rows, labels, UNKNOWN[uncertain], UNKNOWN[blank])
    groups = None if group is None else _groups(rows, files, group)
    splits = None if split is None else _splits(rows, files, split)
    if groups is not None and splits is not None:
        parts = {name: groups[splits == name] for name in np.unique(splits.astype(str))}
        refuse_groups_in_two_splits(parts)
    return LabelTable(files, *found, groups, splits)


class _Rows:
    """The rows of a table as texts, and what an error calls them."""

    def __init__(self, table: Table) -> None:
        self.frame = _frame(table)
        is_frame = not isinstance(table, str | os.PathLike)
        self.title = "The frame" if is_frame else str(table)
        index = self.frame.index
        self._names = (
            [f"row {name}" for name in index]
            if is_frame
            else [f"line {number}" for number in range(FIRST_LINE, len(index) + 2)]
        )
        if not len(index):
            raise TableError(f"{self.title} has no rows.")

    def column(self, name: str) -> np.ndarray:
        """Return a column's fields as texts, "" for empty ones, object `(N,)`."""
        if name not in self.frame.columns:
            raise TableError(
                f"{self.title} has no column {name!r}. It has "
                f"{', '.join(map(repr, self.frame.columns))}."
            )
        return self.frame[name].to_numpy(object)

    def texts(self, name: str) -> np.ndarray:
        """Return a column's fields, refusing empty ones, object `(N,)`."""
        fields = self.column(name)
        self.refuse(fields == "", f"no {name}")
        return fields

    def refuse(
        self, wrong: np.ndarray, what: str, values: np.ndarray | None = None
    ) -> None:
        """Name the rows where something is wrong, if there are any.

        Args:
            wrong: Whether it is, bool `(N,)`.
            what: What these rows have.
            values: What is shown of each of them, `(N,)`.
        """
        (numbers,) = np.nonzero(wrong)
        if not len(numbers):
            return
        shown = [
            self._names[n] + ("" if values is None else f" ({values[n]})")
            for n in numbers
        ]
        raise TableError(
            f"{self.title} has {len(numbers)} row{'s' * (len(numbers) > 1)} with "
            f"{what}: {few(shown)}. Mend them, or take them out."
        )


def _frame(table: Table) -> "pd.DataFrame":
    """Return a table with all fields as texts, "" for empty ones."""
    import pandas as pd  # takes half a second

    if isinstance(table, pd.DataFrame):
        return table.map(_text)
    try:
        # "NA" and "None" may be names: nothing but an empty field is empty.
        frame = pd.read_csv(table, dtype=str, keep_default_na=False)
    except (OSError, ValueError, EOFError) as error:
        raise TableError(
            f"{table} cannot be read as a table ({error}). Give a CSV file whose first "
            "line names the columns, or a frame of pandas."
        ) from error
    return frame.map(str.strip)


def _text(value: Any) -> str:
    """Return a field of a frame as a CSV file has it."""
    if value is None or value != value:  # NaN, NaT and NA
        return ""
    whole = isinstance(value, float) and value.is_integer()
    return str(int(value)) if whole else str(value).strip()


def _repeated(values: np.ndarray) -> np.ndarray:
    """Return whether each of some values stands before, too, bool `(N,)`."""
    _, first = np.unique(values.astype(str), return_index=True)
    repeated = np.ones(len(values), bool)
    repeated[first] = False
    return repeated


def _refuse_options(
    of_columns: bool,
    separator: str | None,
    none: str | None,
    classes: Sequence[str] | None,
    uncertain: str,
    blank: str,
) -> None:
    """Refuse options that would do nothing, or that are none."""
    for name, value in (("uncertain", uncertain), ("blank", blank)):
        if value not in UNKNOWN:
            raise ValueError(
                f"{name} is one of {', '.join(UNKNOWN)}. Received: {name}={value!r}"
            )
    if of_columns:
        useless = {"separator": separator, "none": none, "classes": classes}
        why = "labels are the names of columns: give labels= the name of one column"
    else:
        useless = {
            "uncertain": uncertain if uncertain != "mask" else None,
            "blank": blank if blank != "mask" else None,
            "none": none if separator is None else None,
        }
        why = "labels is one column: give separator= for names that are joined in it"
        if useless["none"] is None:
            why = "labels is one column: give labels= a list of columns with 1, 0, -1"
    given = [
        f"{name}={value!r}" for name, value in useless.items() if value is not None
    ]
    if given:
        raise ValueError(
            f"{' and '.join(given)} would do nothing where {why}, or leave it out."
        )


# --- labels ----------------------------------------------------------------------


def _one_class(
    rows: _Rows, names: np.ndarray, column: str, classes: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    known = tuple(classes or sorted(set(names)))
    numbers = {name: number for number, name in enumerate(known)}
    found = np.array([numbers.get(name, -1) for name in names], np.int64)
    rows.refuse(found < 0, f"a {column} that is none of the classes", names)
    _refuse_unused(rows, known, np.bincount(found, minlength=len(known)))
    return found, known


def _joined(
    rows: _Rows,
    texts: np.ndarray,
    column: str,
    separator: str,
    none: str | None,
    classes: Sequence[str] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    parts = [[name.strip() for name in text.split(separator)] for text in texts]
    both = np.array([none in names and len(names) > 1 for names in parts])
    rows.refuse(both, f"{none!r} beside other names in {column}", texts)
    if none is not None and [none] not in parts:
        raise TableError(
            f"{rows.title} has no row with {none!r} in {column}: that name would be a "
            f"label if it is written otherwise. Received: none={none!r}"
        )
    every = {name for names in parts for name in names} - {none}
    known = tuple(classes or sorted(every))
    numbers = {name: number for number, name in enumerate(known)}
    strange = [any(n not in numbers and n != none for n in names) for names in parts]
    rows.refuse(np.array(strange), f"names in {column} that are no classes", texts)
    found = np.zeros((len(parts), len(known)), np.float32)
    for row, names in enumerate(parts):
        found[row, [numbers[name] for name in names if name != none]] = 1
    _refuse_unused(rows, known, found.sum(0))
    return found, known


def _columns(
    rows: _Rows, columns: Sequence[str], uncertain: float, blank: float
) -> tuple[np.ndarray, tuple[str, ...]]:
    if not columns:
        raise ValueError("labels names no column. Received: labels=[]")
    values = {"1": 1.0, "0": 0.0, "-1": uncertain, "": blank}
    values |= {f"{text}.0": value for text, value in values.items() if text}
    found = np.zeros((len(rows.frame), len(columns)), np.float32)
    for number, column in enumerate(columns):
        fields = rows.column(column)
        unknown = np.array([field not in values for field in fields])
        what = f"something else than 1, 0, -1 or nothing in {column}"
        rows.refuse(unknown, what, fields)
        found[:, number] = [values[field] for field in fields]
    _refuse_unused(rows, columns, (found == 1).sum(0))
    return found, tuple(columns)


def _refuse_unused(rows: _Rows, names: Sequence[str], many: np.ndarray) -> None:
    unused = [name for name, n in zip(names, many, strict=True) if n == 0]
    if unused:
        raise TableError(
            f"{rows.title} has no row with {', '.join(unused)}: a network cannot learn "
            "what no picture shows. Leave these labels out."
        )


# --- groups and splits -----------------------------------------------------------


def _groups(rows: _Rows, files: np.ndarray, group: str) -> np.ndarray:
    if group in rows.frame.columns or "(" not in group:
        return rows.texts(group)
    return groups_in(files, group_pattern(group))


def _splits(
    rows: _Rows, files: np.ndarray, split: str | Mapping[str, str | os.PathLike]
) -> np.ndarray:
    if isinstance(split, str):
        texts = rows.texts(split)
        named = {name: one for one, names in SPLITS.items() for name in names}
        found = np.array([named.get(text.lower(), "") for text in texts], object)
        rows.refuse(found == "", f"a {split} that is no train, val or test", texts)
        return found
    if not split.keys() <= SPLITS.keys():
        raise ValueError(
            f"split has lists of files for {', '.join(SPLITS)}. Received: "
            f"{', '.join(split)}"
        )
    found = np.full(len(files), "train", object)
    for name, path in split.items():
        listed = _lines(Path(path).expanduser())
        inside = np.isin(files.astype(str), listed)
        if not inside.any():
            raise TableError(
                f"None of the {len(listed)} files that {path} lists is in {rows.title}."
                " The list has one file a line, as the table calls it."
            )
        rows.refuse(
            inside & (found != "train"), f"a file that is in {name}, too", files
        )
        found[inside] = name
    return found


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise TableError(f"The list {path} cannot be read ({error}).") from error
    return [line.strip() for line in lines if line.strip()]
