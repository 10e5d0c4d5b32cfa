"""Which picture comes when: functions of a seed and a number.

Nothing before a place in the training must be drawn to know what comes there, so that a
training is resumed at any step.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_densenet.tensor import Tensor


def each_once(pictures: int, an_epoch: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Show each picture once an epoch, each epoch in an order of its own.

    Args:
        pictures: How many there are.
        an_epoch: How many an epoch shows: whole batches.
        seed: Of the order.

    Returns:
        A function from a place in the training, an int64, to a picture's number.
    """

    def picture(place: Tensor) -> Tensor:
        epoch, first = place // an_epoch, place % an_epoch
        return shuffled(first, [seed, epoch], pictures)

    return picture


def balanced(labels: np.ndarray, classes: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Show each class as often as the others, and the pictures of a class in turn.

    Of as many pictures in a row as there are classes, each is of another class. A class
    shows each of its pictures once, in an order of its own, before it begins anew.

    Args:
        labels: int64 `(N,)`; each class has at least one picture.
        classes: How many there are.
        seed: Of the order.

    Returns:
        A function from a place in the training, an int64, to a picture's number.
    """
    by_class = tf.constant(np.argsort(labels, kind="stable"))
    sizes = np.bincount(labels, minlength=classes)
    begins = tf.constant(np.cumsum(sizes) - sizes)
    many = tf.constant(sizes)

    def picture(place: Tensor) -> Tensor:
        turn, first = place // classes, place % classes
        # Another seed than that of the pictures below.
        label = shuffled(first, [seed + 1, turn], classes)
        size = many[label]
        again = turn // size
        number = shuffled(turn % size, [seed, again * classes + label], size)
        return by_class[begins[label] + number]

    return picture


def shuffled(index: Tensor, seed: list, many: Tensor) -> Tensor:
    """Give where one or more of `many` places go in the order that a seed stands for.

    Args:
        index: The places, in 0..`many` - 1.
        seed: Two integers.
        many: How many there are.
    """
    return tf.random.experimental.index_shuffle(
        index,
        seed=tf.stack([tf.cast(part, tf.int64) for part in seed]),
        max_index=many - 1,
    )
