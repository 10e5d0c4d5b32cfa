"""A table of pictures and their labels: CSV, also compressed, or a pandas frame.

one class a row      file, class
names joined         file, "Effusion|Mass"             as of ChestX-ray14
a column a label     file, 1, 0, -1 or nothing, ...    as of CheXpert
"""

import os
import warnings
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
from keras_densenet.data.label_balance import has_label
from keras_densenet.data.preparation import DataUnavailableError
from keras_densenet.errors import few

if TYPE_CHECKING:
    import pandas as pd

Table: TypeAlias = "str | os.PathLike | pd.DataFrame"
Unknown: TypeAlias = Literal["mask", "positive", "negative"]

UNKNOWN = {"mask": np.nan, "positive": 1.0, "negative": 0.0}


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
            that there are, sorted, whole numbers by their size. Of columns the names
            are theirs.
        group: Name of the column of what belongs together; or a pattern that finds it
            in a file's path, in its parentheses, such as r"(patient\d+)".
        split: Name of the column with "train", "val" or "test"; or the paths of lists
            of files, one a line, by the name of their split: all others are to train
            on, where "train" has no list.

    Raises:
        TableError: A column is missing, a field is empty, a file is there twice, a
            label is unknown, or no row has it, or all have it. The error names rows.
        ValueError: Options do not go together with how the labels are written.
    """
    names = labels if isinstance(labels, str) else tuple(map(str, labels))
    of_columns = not isinstance(names, str)
    _refuse_options(of_columns, separator, none, classes, uncertain, blank)
    classes = None if classes is None else _refuse_repeated("classes", classes)
    rows = _Rows(table)
    files = rows.texts(file)
    rows.refuse(_repeated(files), f"the same {file} as another row", files)
    if not isinstance(names, str):
        found = _columns(rows, names, UNKNOWN[uncertain], UNKNOWN[blank])
    elif separator is None:
        found = _one_class(rows, names, classes)
    else:
        found = _joined(rows, names, separator, none, classes)
    groups = None if group is None else _groups(rows, files, group)
    splits = None if split is None else _splits(rows, files, split)
    _refuse_unlearnable(rows.title, *found, splits)
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
        row = "row" if is_frame else "line"
        self._names = [f"{row} {name}" for name in self.frame.index]
        if not self._names:
            raise TableError(
                f"{self.title} has no rows: give one row for each picture."
            )

    def column(self, name: str) -> np.ndarray:
        """Return a column's fields as texts, "" for empty ones, object `(N,)`."""
        columns = list(self.frame.columns)
        if name not in columns:
            commas = (
                " Its fields must be separated by commas." if len(columns) == 1 else ""
            )
            raise TableError(
                f"{self.title} has no column {name!r}. It has "
                f"{', '.join(map(repr, columns))}.{commas}"
            )
        if columns.count(name) > 1:
            raise TableError(
                f"{self.title} has {columns.count(name)} columns {name!r}: give each a "
                "name of its own."
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
    """Return a table with all fields as texts, "" for empty ones.

    Its index has what the rows are called: of a file, the numbers of their lines.
    """
    import pandas as pd  # takes half a second

    if isinstance(table, pd.DataFrame):
        frame = table.astype(object).where(table.notna(), "").map(_text)
        return frame.set_axis([str(name).strip() for name in table.columns], axis=1)
    try:
        # "NA" and "None" may be names: nothing but an empty field is empty. With a
        # header, pandas would take the first field of longer rows for their names.
        frame = pd.read_csv(
            table, header=None, dtype=str, keep_default_na=False, skip_blank_lines=False
        )
    except Exception as error:  # as many kinds as there are of compression
        raise TableError(
            f"{table} cannot be read as a table ({str(error).strip()}). Give a CSV "
            "file in UTF-8 whose first line names the columns, or a frame of pandas."
        ) from error
    frame.index = _first_lines(frame)
    frame = frame.fillna("").map(str.strip)
    frame = frame[(frame != "").any(axis=1)]
    if not len(frame):
        raise TableError(
            f"{table} has no line that names its columns: begin it with one."
        )
    return frame[1:].set_axis(list(frame.iloc[0]), axis=1)


def _first_lines(frame: "pd.DataFrame") -> np.ndarray:
    """Return the number of each row's first line: a field may be of several lines."""
    breaks = (
        frame.apply(lambda fields: fields.str.count("\n")).sum(axis=1).to_numpy(int)
    )
    return 1 + np.arange(len(frame)) + np.cumsum(breaks) - breaks


def _text(value: Any) -> str:
    """Return a field of a frame as a CSV file has it."""
    whole = isinstance(value, float | np.floating) and value.is_integer()
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
    if separator is not None and not separator.strip():
        raise ValueError(
            "separator is what stands between two names, such as '|'. Received: "
            f"separator={separator!r}"
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


def _refuse_repeated(argument: str, names: Sequence[str]) -> tuple[str, ...]:
    """Return names of classes as texts, refusing what cannot be that."""
    texts = tuple(map(str, names))
    if isinstance(names, str) or not texts or len(set(texts)) < len(texts):
        raise ValueError(
            f"{argument} must be a list of one name or more, without repetitions. "
            f"Received: {argument}={names!r}"
        )
    return texts


# --- labels ----------------------------------------------------------------------


def _one_class(
    rows: _Rows, column: str, classes: Sequence[str] | None
) -> tuple[np.ndarray, tuple[str, ...]]:
    names = rows.texts(column)
    known = tuple(classes or _sorted(rows, column, set(names)))
    numbers = {name: number for number, name in enumerate(known)}
    found = np.array([numbers.get(name, -1) for name in names], np.int64)
    rows.refuse(found < 0, f"a {column} that is none of the classes", names)
    return found, known


def _joined(
    rows: _Rows,
    column: str,
    separator: str,
    none: str | None,
    classes: Sequence[str] | None,
) -> tuple[np.ndarray, tuple[str, ...]]:
    texts = rows.texts(column)
    parts = [[name.strip() for name in text.split(separator)] for text in texts]
    empty = np.array(["" in names for names in parts])
    rows.refuse(empty, f"nothing before or after a {separator!r} in {column}", texts)
    if none is not None:
        _refuse_none(rows, column, none, parts, classes)
    every = {name for names in parts for name in names}
    sorted_names = classes or _sorted(rows, column, every)
    known = tuple(name for name in sorted_names if name != none)
    numbers = {name: number for number, name in enumerate(known)}
    strange = [any(n not in numbers and n != none for n in names) for names in parts]
    rows.refuse(np.array(strange), f"names in {column} that are no classes", texts)
    found = np.zeros((len(parts), len(known)), np.float32)
    for row, names in enumerate(parts):
        found[row, [numbers[name] for name in names if name != none]] = 1
    return found, known


def _refuse_none(
    rows: _Rows,
    column: str,
    none: str,
    parts: Sequence[Sequence[str]],
    classes: Sequence[str] | None,
) -> None:
    """Refuse a name for no label that is a class, or nowhere, or not alone."""
    if none in (classes or ()):
        raise ValueError(
            f"none={none!r} means no label, and is one of the classes: take it out of "
            f"them, or leave none out. Received: classes={classes!r}"
        )
    both = np.array([none in names and len(names) > 1 for names in parts])
    texts = np.array([", ".join(names) for names in parts], object)
    rows.refuse(both, f"{none!r} beside other names in {column}", texts)
    if [none] not in parts:
        raise TableError(
            f"{rows.title} has no row with {none!r} in {column}. If the table writes "
            "it otherwise, it would become a label: give none= as the table has it, or "
            f"leave it out. Received: none={none!r}"
        )


def _columns(
    rows: _Rows, columns: Sequence[str], uncertain: float, blank: float
) -> tuple[np.ndarray, tuple[str, ...]]:
    names = _refuse_repeated("labels", columns)
    values = {"1": 1.0, "0": 0.0, "-1": uncertain, "": blank}
    values |= {f"{text}.0": value for text, value in values.items() if text}
    values |= {"True": 1.0, "False": 0.0}  # as pandas writes them
    found = np.zeros((len(rows.frame), len(names)), np.float32)
    for number, column in enumerate(names):
        fields = rows.column(column)
        unknown = np.array([field not in values for field in fields])
        what = f"something else than 1, 0, -1 or nothing in {column}"
        rows.refuse(unknown, what, fields)
        found[:, number] = [values[field] for field in fields]
    return found, names


def _sorted(rows: _Rows, column: str, names: set[str]) -> list[str]:
    """Return the names of the classes that there are, whole numbers by their size.

    Raises:
        TableError: Two of them are the same but for small and capital letters.
    """
    alike: dict[str, list[str]] = {}
    for name in sorted(names):
        alike.setdefault(name.casefold(), []).append(name)
    twice = [" and ".join(map(repr, same)) for same in alike.values() if len(same) > 1]
    if twice:
        raise TableError(
            f"{rows.title} has names in {column} that differ in small and capital "
            f"letters alone: {few(twice)}. Write them alike; or, if these are "
            "different classes, list all of them with classes=."
        )
    are_numbers = all(name.isdecimal() for name in names)
    return sorted(names, key=(lambda name: (int(name), name)) if are_numbers else None)


def _refuse_unlearnable(
    title: str, labels: np.ndarray, names: Sequence[str], splits: np.ndarray | None
) -> None:
    """Refuse labels that no row has, and those that all have of which it is known.

    Where all rows are to validate or to test on there is nothing to learn.
    """
    if splits is not None and "train" not in splits:
        return
    several = labels.ndim == 2
    has: Any = has_label(labels, len(names))
    has_not = labels == 0 if several else ~has
    unused = [
        name for name, any_has in zip(names, has.any(0), strict=True) if not any_has
    ]
    if unused:
        raise TableError(
            f"{title} has no row with {', '.join(unused)}: a network cannot learn what "
            "no picture shows. Leave these labels out."
        )
    always = [
        name for name, any_not in zip(names, has_not.any(0), strict=True) if not any_not
    ]
    if several and always:
        raise TableError(
            f"{title} has no row that is known to be without {', '.join(always)}: a "
            "network would learn to say yes to all pictures. Leave these labels out; "
            'or, if nothing in a field means 0, give blank="negative".'
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
    if not isinstance(split, Mapping) or not split.keys() <= SPLITS.keys():
        raise ValueError(
            "split is the name of a column, or has the path of a list of files for "
            f"{', '.join(SPLITS)}, as in split={{'test': 'test_list.txt'}}. Received: "
            f"split={split!r}"
        )
    found = np.full(len(files), "", object)
    for name, path in split.items():
        inside = _listed(rows, files, path)
        twice = inside & (found != "")
        rows.refuse(twice, f"a file that two lists have, one of them {name}'s", files)
        found[inside] = name
    if "train" in split:
        rows.refuse(found == "", "a file that no list has", files)
    found[found == ""] = "train"
    return found


def _listed(rows: _Rows, files: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    """Return whether each file is in a list of files, bool `(N,)`."""
    listed = _lines(path)
    inside = np.isin(files.astype(str), listed)
    strange = sorted(set(listed) - set(files))
    if not inside.any():
        raise TableError(
            f"None of the {len(listed)} files that {path} lists is in {rows.title}."
            " The list has one file a line, as the table calls it."
        )
    if strange:
        warnings.warn(
            f"{len(strange)} of the {len(listed)} files that {path} lists are not in "
            f"{rows.title}: {few(strange)}. If the table calls them otherwise, they "
            "are in another split.",
            stacklevel=6,  # where the data module is made
        )
    return inside


def _lines(path: str | os.PathLike) -> list[str]:
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError, TypeError) as error:
        raise TableError(
            f"The list {path} cannot be read ({error}). Give the path of a text file "
            "in UTF-8 with the name of a file in each line."
        ) from error
    return [line.strip() for line in lines if line.strip()]
