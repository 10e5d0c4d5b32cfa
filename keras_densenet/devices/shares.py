"""The shares that replicas have of a batch."""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from keras_densenet.errors import MisconfigurationError

_ANY_SIZE = 2**30  # a batch takes what there is, up to this


def share_last_batches(dataset: tf.data.Dataset, replicas: int) -> tf.data.Dataset:
    """Let no replica go without pictures in the last batch of a dataset.

    A strategy cuts a batch of n pictures into shares of ceil(n / replicas), one after
    another, so that the last replicas may get none. Layers differ in what they make of
    an empty batch; oneDNN's convolution gives it a wrong shape, and the run fails. And
    Keras takes the first batch for one of equal shares.

    So the last few batches become two: one of equal shares, and one of which each
    replica has at least a picture, and at most as many as there are replicas.

    Args:
        dataset: Of batches.
        replicas: How many share a batch.

    Raises:
        MisconfigurationError: Too few pictures for that, or batches of a size that is
            no multiple of `replicas`.
    """
    steps = int(dataset.cardinality())
    if steps < 1:  # of unknown size
        return dataset
    size = _pictures(next(iter(dataset)))
    few = min(steps, 1 + math.ceil(replicas**2 / size))
    if steps > 1:
        refuse_unequal_shares(size, replicas)
    if few == steps:
        total = sum(_pictures(batch) for batch in dataset)
        if total % replicas == 0:
            return dataset
        _refuse_too_few(total, replicas)

    first = steps - few  # of the last few

    def pieces(number: Any, window: tf.data.Dataset) -> tf.data.Dataset:
        is_last = number == first

        def cut(*both: Any) -> tf.data.Dataset:
            n = tf.shape(tf.nest.flatten(both)[0], tf.int64)[0]
            over = n % replicas
            small = (over + replicas * (replicas - over)) * tf.cast(is_last, tf.int64)
            begins = tf.stack([0, n - small, n])
            elements = both if len(both) > 1 else both[0]
            return tf.data.Dataset.range(1 + tf.cast(is_last, tf.int64)).map(
                lambda part: tf.nest.map_structure(
                    lambda rows: rows[begins[part] : begins[part + 1]], elements
                )
            )

        batches = window.map(lambda number, batch: batch)
        return batches.rebatch(_ANY_SIZE).flat_map(cut)

    # In one pass: what `skip` leaves out would be decoded all the same.
    grouped = dataset.enumerate().group_by_window(
        lambda number, batch: tf.minimum(number, first),
        pieces,
        window_size_func=lambda number: tf.where(number == first, np.int64(few), 1),
    )
    return grouped.apply(tf.data.experimental.assert_cardinality(first + 2))


def _pictures(batch: Any) -> int:
    return int(tf.nest.flatten(batch)[0].shape[0])


def refuse_unequal_shares(size: int, replicas: int) -> None:
    """Refuse a global batch that replicas cannot share."""
    if size % replicas:
        raise MisconfigurationError(
            f"A global batch of {size} pictures cannot be shared by {replicas} "
            f"devices: use a multiple of {replicas}."
        )


def _refuse_too_few(total: int, replicas: int) -> None:
    """Refuse what leaves a replica without a picture, however it is cut."""
    over = total % replicas
    enough = over + replicas * (replicas - over) + replicas
    if total < enough:
        raise MisconfigurationError(
            f"{total} pictures to validate, test or predict on cannot be shared by "
            f"{replicas} devices: give a multiple of {replicas}, or {enough} or more; "
            "or do it with devices=1."
        )
