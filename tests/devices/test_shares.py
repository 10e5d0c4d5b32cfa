"""The shares that replicas have of a batch."""

import numpy as np
import pytest
import tensorflow as tf

from keras_densenet.devices.shares import share_last_batches
from keras_densenet.training import MisconfigurationError


def shares(pictures, replicas):
    """Cut a batch as a strategy does."""
    share = -(-pictures // replicas)
    return [
        max(0, min(share, pictures - share * replica)) for replica in range(replicas)
    ]


@pytest.mark.parametrize(
    ("pictures", "batch_size", "replicas", "sizes"),
    [
        (17, 16, 2, [14, 3]),
        (33, 16, 2, [16, 14, 3]),
        (32, 16, 2, [16, 16]),
        (34, 16, 2, [16, 14, 4]),
        (5, 64, 2, [2, 3]),
        (5, 2, 2, [2, 3]),
        (65, 64, 8, [8, 57]),  # 40 + 25 would be 6 * 4 + 1 + 0
        (137, 16, 8, [16, 16, 16, 16, 16, 57]),
        (6, 16, 2, [6]),
    ],
)
def test_last_batches_leave_no_replica_without_a_picture(
    pictures, batch_size, replicas, sizes
):
    dataset = tf.data.Dataset.range(pictures).batch(batch_size)
    shared = share_last_batches(dataset, replicas)
    assert [len(batch) for batch in shared] == sizes
    assert int(shared.cardinality()) == len(sizes)
    np.testing.assert_array_equal(np.concatenate(list(shared)), np.arange(pictures))
    assert all(0 not in shares(size, replicas) for size in sizes)
    assert sizes[0] % replicas == 0


def test_no_picture_is_made_twice_for_its_share():
    made = []

    def make(number):
        made.append(int(number))
        return number

    dataset = tf.data.Dataset.range(41).map(
        lambda n: tf.ensure_shape(tf.numpy_function(make, [n], tf.int64), [])
    )
    shared = share_last_batches(dataset.batch(8), 2)
    made.clear()  # the first batch, whose size is asked for
    assert [len(batch) for batch in shared] == [8, 8, 8, 8, 6, 3]
    assert sorted(made) == list(range(41))


def test_every_number_of_pictures_is_shared_or_refused():
    for replicas, batch_size in ((2, 2), (3, 6)):
        for pictures in range(1, 2 * batch_size + replicas**2):
            dataset = tf.data.Dataset.range(pictures).batch(batch_size)
            try:
                sizes = [len(b) for b in share_last_batches(dataset, replicas)]
            except MisconfigurationError:
                assert pictures < replicas * (replicas + 1)
                assert pictures % replicas
                continue
            assert sum(sizes) == pictures
            assert all(0 not in shares(size, replicas) for size in sizes)


@pytest.mark.parametrize(
    ("pictures", "batch_size", "words"),
    [
        (1, 4, "1 pictures to validate, test or predict on cannot be shared by 2 dev"),
        (3, 4, "a multiple of 2, or 5 or more"),
        (12, 5, "A global batch of 5 pictures cannot be shared"),
    ],
)
def test_too_few_pictures_for_the_devices_are_refused(pictures, batch_size, words):
    dataset = tf.data.Dataset.range(pictures).batch(batch_size)
    with pytest.raises(MisconfigurationError, match=words):
        share_last_batches(dataset, 2)
