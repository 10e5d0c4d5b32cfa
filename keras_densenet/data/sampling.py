"""Which picture comes when, as functions of a seed and of a place in the training.

Nothing before a place must be drawn to know which picture comes there, so that a
training can be resumed at any step.
"""

from collections.abc import Callable

import numpy as np
import tensorflow as tf

from keras_densenet.tensor import Tensor


def each_once(pictures: int, an_epoch: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Show each picture once an epoch, each epoch in an order of its own.

    Args:
        pictures: Number of pictures.
        an_epoch: Number of pictures that an epoch shows: whole batches.
        seed: Seed of the order.

    Returns:
        A function from a place in the training, an int64, to a picture's number.
    """

    def picture(place: Tensor) -> Tensor:
        epoch, first = place // an_epoch, place % an_epoch
        return shuffled(first, [seed, epoch], pictures)

    return picture


def balanced(labels: np.ndarray, classes: int, seed: int) -> Callable[[Tensor], Tensor]:
    """Show each class as often as the others, and the pictures of a class in turn.

    As many pictures in a row as there are classes are each of another class. A class
    shows each of its pictures once, in an order of its own, before it begins anew.

    Args:
        labels: Class numbers, int64 `(N,)`; each class has at least one picture.
        classes: Number of classes.
        seed: Seed of the order.

    Returns:
        A function from a place in the training, an int64, to a picture's number.
    """
    by_class = tf.constant(np.argsort(labels, kind="stable"))
    sizes = np.bincount(labels, minlength=classes)
    firsts = tf.constant(np.cumsum(sizes) - sizes)
    sizes = tf.constant(sizes)

    def picture(place: Tensor) -> Tensor:
        turn, first = place // classes, place % classes
        # Another seed than that of the pictures below.
        label = shuffled(first, [seed + 1, turn], classes)
        size = sizes[label]
        rounds = turn // size
        number = shuffled(turn % size, [seed, rounds * classes + label], size)
        return by_class[firsts[label] + number]

    return picture


def shuffled(index: Tensor, seed: list, many: Tensor) -> Tensor:
    """Return where places come in the order of all places that a seed stands for.

    Args:
        index: One place or more, in 0..`many` - 1.
        seed: Two integers.
        many: Number of all places.
    """
    return tf.random.experimental.index_shuffle(
        index,
        seed=tf.stack([tf.cast(part, tf.int64) for part in seed]),
        max_index=many - 1,
    )
