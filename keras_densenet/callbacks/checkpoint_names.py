"""Names of checkpoint files, by a pattern such as "{epoch}-{val_accuracy:.3f}"."""

import math
import re
import string
from collections.abc import Mapping
from typing import Any

from keras_densenet.checkpoint_file import BEFORE_LAST, LAST
from keras_densenet.errors import MisconfigurationError


def formatted(filename: str, values: Mapping[str, Any], insert_names: bool) -> str:
    """Return the name that a pattern is with these values, without a folder.

    >>> formatted("{epoch}-{val_loss:.2f}", {"epoch": 3, "val_loss": 0.1234}, True)
    'epoch=3-val_loss=0.12'
    """
    parts = []
    for text, field, spec, _ in string.Formatter().parse(filename):
        parts.append(text)
        if field is not None:
            value = values.get(field, math.nan)
            parts.append(f"{field}=" if insert_names else "")
            parts.append(format(value, spec or ""))
    return "".join(parts).replace("/", "-")


def fields_of(filename: str | None) -> list[str]:
    """Name the metrics in a pattern of file names.

    >>> fields_of("{epoch:02d}-{val_loss:.2f}")
    ['val_loss']
    """
    fields = [field for _, field, _, _ in string.Formatter().parse(filename or "")]
    return [field for field in fields if field and field not in ("epoch", "step")]


def check_filename(filename: str | None) -> None:
    """Refuse a pattern of names that cannot be files of the checkpoints' folder."""
    if filename is None:
        return
    try:
        stem = formatted(filename, {"epoch": 1, "step": 1}, insert_names=False)
        parts = list(string.Formatter().parse(filename))
    except (ValueError, TypeError, AttributeError) as error:
        raise MisconfigurationError(
            "filename is a pattern such as '{epoch}-{val_accuracy:.3f}'. Received: "
            f"filename={filename!r} ({error})"
        ) from error
    names = [field for _, field, _, _ in parts if field is not None]
    plain = all(re.fullmatch(r"[\w/]+", name) for name in names)
    texts = "".join(text for text, *_ in parts)
    is_name = stem and stem[0] != "." and not set("/\\:") & set(texts)
    if not (plain and is_name) or f"{stem}.keras" in (LAST, BEFORE_LAST):
        raise MisconfigurationError(
            "filename is the name of a file in dirpath, without its ending, a pattern "
            "such as '{epoch}-{val_accuracy:.3f}'; last and before-last are taken. "
            f"Received: filename={filename!r}"
        )
