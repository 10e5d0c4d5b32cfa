"""How many batches: the trainer's `limit_` flags."""

from typing import Any

import numpy as np
import tensorflow as tf

from keras_densenet.data import DataModule
from keras_densenet.errors import MisconfigurationError
from keras_densenet.training.flags import Flags
from keras_densenet.training.views import Views


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
    """Return how many of `batches` a limit leaves; of a share at least one.

    >>> limited(10, 0.25), limited(10, 4), limited(10, 40), limited(3, 0.1)
    (2, 4, 10, 1)
    """
    if isinstance(limit, float):
        return max(1, int(batches * limit)) if limit else 0
    return min(batches, limit)


_OF_STAGE = {
    "validate": ("val_dataset", "limit_val_batches"),
    "test": ("test_dataset", "limit_test_batches"),
    "predict": ("predict_dataset", "limit_predict_batches"),
}


def evaluated_batches(
    stage: str, data: DataModule, flags: Flags, views: Views = None
) -> tf.data.Dataset:
    """Return the batches to validate, test or predict on.

    Args:
        stage: "validate", "test" or "predict".
        data: Set up for it.
        flags: Of the trainer.
        views: Several of each picture to predict, as `DataModule.predict_views` has
            them; None for the picture alone.

    Raises:
        MisconfigurationError: There are none.
    """
    dataset, limit = _OF_STAGE[stage]
    every = data.predict_views(views) if views else getattr(data, dataset)()
    batches = take(every, getattr(flags, limit))
    if batches is None:
        raise MisconfigurationError(
            f"There is nothing to {stage} on: {type(data).__name__} has no such "
            f"pictures, or {limit} is 0. Give it some, such as by holding a share out, "
            "or raise the limit."
        )
    return batches


def take(dataset: Any, limit: float) -> Any | None:
    """Return the first batches of a dataset, or None where there are none.

    Where nobody knows how many there are, they are counted, in one pass: Keras 3.15
    would take one batch more into its means.
    """
    if dataset is None or limit == 0:
        return None
    batches = int(dataset.cardinality())
    if isinstance(limit, int):
        dataset = dataset.take(limit)
        return _counted(dataset) if batches == tf.data.UNKNOWN_CARDINALITY else dataset
    if batches == tf.data.UNKNOWN_CARDINALITY and limit == 1.0:
        return _counted(dataset)
    if batches < 0:
        raise MisconfigurationError(
            f"A share of {limit} cannot be taken of a dataset whose size is not known, "
            "or that has no end: give a number of batches, an int, or end the dataset "
            "with .apply(tf.data.experimental.assert_cardinality(n))."
        )
    return dataset if limit == 1.0 else dataset.take(limited(batches, limit))


def _counted(dataset: tf.data.Dataset) -> tf.data.Dataset:
    batches = dataset.reduce(np.int64(0), lambda number, *batch: number + 1)
    return dataset.apply(tf.data.experimental.assert_cardinality(int(batches)))
