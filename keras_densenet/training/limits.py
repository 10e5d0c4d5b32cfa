"""How many batches: the trainer's `limit_` flags."""

from typing import Any

from keras_densenet.errors import MisconfigurationError


def check_limit(limit: float, flag: str) -> None:
    """Refuse what is neither a share in [0, 1] nor a number of batches."""
    is_share = isinstance(limit, float) and 0.0 <= limit <= 1.0
    is_number = isinstance(limit, int) and not isinstance(limit, bool) and limit >= 0
    if not (is_share or is_number):
        raise MisconfigurationError(
            f"{flag} is a share of the batches, a float in [0.0, 1.0], or their "
            f"number, an int of 0 or more. Received: {flag}={limit!r}"
        )


def limited(batches: int, limit: float) -> int:
    """Give how many of `batches` a limit leaves; of a share at least one.

    >>> limited(10, 0.25), limited(10, 4), limited(10, 40), limited(3, 0.1)
    (2, 4, 10, 1)
    """
    if isinstance(limit, float):
        return max(1, int(batches * limit)) if limit else 0
    return min(batches, limit)


def take(dataset: Any, limit: float) -> Any | None:
    """Give the first batches of a dataset, or None where there are none."""
    if dataset is None or limit == 0:
        return None
    if limit == 1.0 and isinstance(limit, float):
        return dataset
    if isinstance(limit, int):
        return dataset.take(limit)
    batches = int(dataset.cardinality())
    if batches < 0:
        raise MisconfigurationError(
            f"A share of {limit} of a dataset of unknown size: give a number of "
            "batches, an int, or end the dataset with "
            ".apply(tf.data.experimental.assert_cardinality(n))."
        )
    return dataset.take(limited(batches, limit))
