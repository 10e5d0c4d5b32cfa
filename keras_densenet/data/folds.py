"""Folds of a cross-validation: every picture that is not to test on is in one of them.

What belongs together is in one fold, each fold has its share of every label, and a
hash of names decides, so that the folds are the same on every machine, in whatever
order the pictures come.
"""

import operator
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from keras_densenet.data.hold_out import hash_of, strata_of_groups
from keras_densenet.errors import MisconfigurationError, few


class Fold(NamedTuple):
    """Which of how many folds is validated on.

    Attributes:
        number: Its number, 1..folds.
        folds: How many there are, 2 or more.
    """

    number: int
    folds: int

    def __str__(self) -> str:
        """Return it in words."""
        return f"fold {self.number} of {self.folds}"


def fold_of(number: int, folds: int, before: Fold | None = None) -> Fold:
    """Return a fold, refusing what is none.

    Args:
        number: 1..folds.
        folds: 2 or more.
        before: The fold that the data are already.

    Raises:
        MisconfigurationError: It is none, or it would be a fold of a fold.
    """
    try:
        fold = Fold(operator.index(number), operator.index(folds))
    except TypeError:
        fold = Fold(0, 0)
    if isinstance(folds, bool) or fold.folds < 2 or not 1 <= fold.number <= fold.folds:
        raise MisconfigurationError(
            "Folds are two or more, and numbered from 1: data.fold(1, 5) is the first "
            f"of five. Received: fold({number!r}, {folds!r})"
        )
    if before:
        raise MisconfigurationError(
            f"These data are {before} already, and a part of them cannot be divided "
            "again: call fold of the data that it was made of."
        )
    return fold


def refuse_other_fold(own: Fold | None, state: Mapping[str, Any]) -> None:
    """Refuse a run that has learnt from the pictures that this fold validates on.

    Args:
        own: The fold that the data are, or None.
        state: What the run's data said in their `state_dict`.

    Raises:
        MisconfigurationError: The run is of another fold, or of none.
    """
    if own is None or kept_fold(state) == own:
        return
    of_run = kept_fold(state)
    has_seen = f"is of {of_run}" if of_run else "was trained without folds"
    raise MisconfigurationError(
        f"These data are {own}, and the run {has_seen}: it has learned from pictures "
        "that this fold validates on. Give the data of its own fold, or a checkpoint "
        f"of {own}."
    )


def kept_fold(state: Mapping[str, Any]) -> Fold | None:
    """Return the fold that a run's data were, by their `state_dict`; None for none."""
    return Fold(*state["fold"]) if state.get("fold") else None


def folds_of(
    units: np.ndarray,
    has_label: np.ndarray,
    class_names: Sequence[str],
    folds: int,
) -> np.ndarray:
    """Divide pictures among folds, each with its share of every label.

    Of several labels that a picture has, the rarest counts, as where shares are held
    out.

    Args:
        units: What stays together, by name, `(N,)`: a picture by its path, or all
            pictures of a patient.
        has_label: Whether each picture has each label, bool `(N, labels)`.
        class_names: Names of the labels.
        folds: How many, 2 or more.

    Returns:
        The number of each picture's fold, 1..folds, int64 `(N,)`.

    Raises:
        MisconfigurationError: There are fewer units than folds, or a label that one
            fold alone would have.
    """
    names, of_picture = np.unique(units.astype(str), return_inverse=True)
    if len(names) < folds:
        raise MisconfigurationError(
            f"{folds} folds need as many pictures, or groups of them, that are not to "
            f"test on, and there are {len(names)}: use fewer folds."
        )
    hashes = np.array([hash_of(name) for name in names])[of_picture]
    strata = strata_of_groups(np.arange(len(units)), has_label)
    numbers = _divided(hashes, strata, folds, grouped=len(names) < len(units))
    _refuse_labels_of_one_fold(numbers, has_label, class_names, folds)
    return numbers


def _divided(
    hashes: np.ndarray, strata: np.ndarray, folds: int, grouped: bool
) -> np.ndarray:
    """Return the number of each picture's fold, whatever their order."""
    order = np.lexsort((strata, hashes))
    numbers = np.zeros(len(order), np.int64)
    # Both give the same shares; where nothing belongs together one takes seconds less.
    divide = (StratifiedGroupKFold if grouped else StratifiedKFold)(folds)
    _, of_stratum = np.unique(strata, return_counts=True)
    if of_stratum.max() < folds:
        strata = np.zeros_like(strata)  # too few of each to be shared out
    with warnings.catch_warnings():
        # Of strata that are smaller than the folds are many: ours names the labels.
        warnings.simplefilter("ignore", UserWarning)
        parts = divide.split(strata, strata[order], hashes[order])
        for number, (_, held_out) in enumerate(parts, 1):
            numbers[order[held_out]] = number
    return numbers


def _refuse_labels_of_one_fold(
    numbers: np.ndarray, has_label: np.ndarray, class_names: Sequence[str], folds: int
) -> None:
    """Refuse labels that would be learnt from no picture; warn of rare ones."""
    there = {
        name: len(np.unique(numbers[has]))
        for name, has in zip(class_names, has_label.T, strict=True)
    }
    alone = [name for name, many in there.items() if many == 1]
    if alone:
        raise MisconfigurationError(
            f"One of {folds} folds would have all pictures of: {few(alone)}. The "
            "network that is asked about them would have learned from none: add some, "
            "of other groups where there are groups, or leave these labels out."
        )
    rare = [name for name, many in there.items() if 1 < many < folds]
    if rare:
        warnings.warn(
            f"Some of {folds} folds have no picture of: {few(rare)}. The metrics of "
            "such a fold say nothing about these labels: look at those of all pictures "
            "together.",
            stacklevel=5,
        )
