"""What belongs together in one split, such as all pictures of a patient."""

import re
from collections.abc import Iterable, Mapping

import numpy as np

from keras_densenet.data.preparation import DataUnavailableError
from keras_densenet.errors import few


def group_pattern(group: str) -> re.Pattern[str]:
    """Return the pattern that finds a group's name in the path of a file.

    Raises:
        ValueError: It is no regular expression with one pair of parentheses.
    """
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise ValueError(
            f"group is no regular expression ({error}). Received: group={group!r}"
        ) from error
    if pattern.groups != 1:
        raise ValueError(
            "A pattern of paths needs one pair of parentheses about the group's name, "
            rf'such as r"(patient\d+)". Received: group={group!r}'
        )
    return pattern


def groups_in(paths: Iterable[str], pattern: re.Pattern[str]) -> np.ndarray:
    r"""Return the name of each path's group, `(N,)`.

    >>> groups_in(["a/p07_1.png", "b/p07_2.png"], re.compile(r"(p\d+)_"))
    array(['p07', 'p07'], dtype=object)

    Raises:
        ValueError: The pattern is not found in a path, or what it finds is empty.
    """
    paths = list(paths)
    matches = [pattern.search(path) for path in paths]
    found = [match[1] if match else None for match in matches]
    without = [path for path, name in zip(paths, found, strict=True) if not name]
    if without:
        raise ValueError(
            f"No group is found in the path of {len(without)} files: {few(without)}. "
            "Give a pattern that is found in each path. Received: "
            f"group={pattern.pattern!r}"
        )
    return np.array(found, object)


def refuse_groups_in_two_splits(groups: Mapping[str, np.ndarray]) -> None:
    """Refuse splits that share a group.

    Args:
        groups: Names of the groups of each split's pictures.

    Raises:
        DataUnavailableError: They do; it names groups.
    """
    splits: dict[str, list[str]] = {}
    for split, names in groups.items():
        for name in np.unique(names.astype(str)):
            splits.setdefault(str(name), []).append(split)
    shared = {name: found for name, found in splits.items() if len(found) > 1}
    if shared:
        shown = [f"{name} ({', '.join(found)})" for name, found in shared.items()]
        raise DataUnavailableError(
            "Groups are in more than one of the given splits, "
            f"{len(shared)} in all: {few(shown)}. What is learned of a group would be "
            "tested on the same group: put all of it into one split."
        )
