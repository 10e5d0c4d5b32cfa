import os

import keras
import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd
from keras_densenet.data import mirror_and_shift, standardize


@pytest.fixture
def digits():
    data = kd.data.Digits(batch_size=50, seed=1)
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    return data


def test_digits_have_their_splits(digits):
    assert [int(digits.train_dataset().cardinality())] == [25]  # 1257 // 50
    sizes = [
        sum(len(labels) for _, labels in dataset)
        for dataset in (digits.val_dataset(), digits.test_dataset())
    ]
    assert sizes == [180, 360]
    images, labels = next(iter(digits.train_dataset()))
    assert images.shape == (50, *digits.input_shape)
    assert images.dtype == tf.float32
    assert set(np.unique(labels)) <= set(range(digits.num_classes))
    assert next(iter(digits.predict_dataset())).shape == (50, 32, 32, 3)


def test_digits_splits_share_no_picture(digits):
    pictures = [
        {image.tobytes() for image in digits._splits[name].images.numpy()}
        for name in ("train", "val", "test")
    ]
    # The data set itself holds no picture twice.
    assert sum(map(len, pictures)) == len(set.union(*pictures)) == 1797


def test_digits_constants_are_those_of_the_training_pictures(digits):
    images = digits._splits["train"].images.numpy()
    assert images.mean() == pytest.approx(digits.mean[0], abs=0.1)
    assert images.std() == pytest.approx(digits.std[0], abs=0.1)


def test_an_epoch_is_a_permutation_of_its_own():
    digits = kd.data.Digits(batch_size=419, augment=False, seed=1)  # 1257 = 3 * 419
    digits.setup("fit")
    pictures = [x.numpy() for x, _ in digits.train_batches(0).take(6)]
    first, second = (np.concatenate(pictures[i : i + 3]) for i in (0, 3))
    assert not np.array_equal(first, second)
    first, second = (np.sort(x.reshape(1257, -1).sum(1)) for x in (first, second))
    np.testing.assert_array_equal(first, second)
    (original,) = (kd.data.Digits(batch_size=1257, augment=False).load_splits("fit"),)
    expected = (original["train"].images - np.float32(digits.mean)) / digits.std
    expected = np.sort(expected.reshape(1257, -1).sum(1))
    np.testing.assert_allclose(first, expected, rtol=1e-4, atol=1e-2)


def test_a_batch_depends_on_its_number_alone(digits):
    whole = list(digits.train_batches(0).take(30))
    for x, y in (whole[26], next(iter(digits.train_batches(26)))):
        np.testing.assert_array_equal(x, whole[26][0])
        np.testing.assert_array_equal(y, whole[26][1])


def test_by_default_batches_from_a_step_on_are_read_again():
    class Numbers(kd.data.DataModule):
        def train_dataset(self):
            return tf.data.Dataset.range(4).shuffle(4, seed=3)

        test_dataset = predict_dataset = train_dataset

    whole = [int(n) for n in Numbers().train_batches(0).take(12)]
    assert [int(n) for n in Numbers().train_batches(7).take(5)] == whole[7:]
    assert whole[:4] != whole[4:8]  # shuffled anew


def test_a_resumed_data_module_goes_on_with_its_seed():
    begun, resumed = kd.data.Digits(seed=8), kd.data.Digits(seed=9)
    resumed.load_state_dict(begun.state_dict())
    assert resumed.seed == 8


def test_a_seed_repeats_the_pictures():
    batches = []
    for seed in (3, 3, 4):
        data = kd.data.Digits(batch_size=8, seed=seed)
        data.setup("fit")
        batches.append(next(iter(data.train_dataset()))[0])
    np.testing.assert_array_equal(batches[0], batches[1])
    assert not np.array_equal(batches[0], batches[2])


def test_seed_everything_repeats_the_pictures_of_an_unseeded_module():
    batches = []
    for _ in range(2):
        kd.seed_everything(5)
        data = kd.data.Digits(batch_size=8)
        data.setup("fit")
        batches.append(next(iter(data.train_dataset()))[0])
    np.testing.assert_array_equal(*batches)


def test_digits_are_not_mirrored_and_without_augmentation_not_moved():
    data = kd.data.Digits(batch_size=1257, augment=False)
    data.setup("fit")
    (images, _), *_ = data.train_dataset()
    shown = np.sort(images.numpy().reshape(1257, -1).sum(axis=1))
    stored = standardize(data._splits["train"].images.numpy(), data.mean, data.std)
    expected = np.sort(stored.numpy().reshape(1257, -1).sum(axis=1))
    np.testing.assert_allclose(shown, expected, rtol=1e-4, atol=1e-2)
    assert not data.mirror


def test_shifted_pictures_are_windows_of_the_padded_picture():
    rng = np.random.default_rng(0)
    images = rng.normal(size=(200, 6, 5, 3)).astype("float32")
    shifted = mirror_and_shift(tf.constant(images), tf.constant([1, 2]), padding=2)
    corners, mirrored = set(), 0
    for image, result in zip(images, shifted.numpy(), strict=True):
        found = [
            (top, left, flip)
            for flip in (False, True)
            for top in range(5)
            for left in range(5)
            if np.array_equal(result, window(image, top, left, flip))
        ]
        assert len(found) == 1
        corners.add(found[0][:2])
        mirrored += found[0][2]
    assert len(corners) == 25  # each of the 5 x 5 places occurs
    assert 70 < mirrored < 130  # of 200: five standard deviations around a half


def window(image, top, left, flip):
    picture = image[:, ::-1] if flip else image
    padded = np.pad(picture, [(2, 2), (2, 2), (0, 0)])  # zeros: the mean colour
    return padded[top : top + 6, left : left + 5]


def test_a_training_batch_is_that_made_by_hand():
    """The paper's C10+, picture by picture, from the numbers that are drawn."""
    data = kd.data.Digits(batch_size=6, seed=11, mirror=True)
    data.setup("fit")
    step, steps = 210, 1257 // 6  # the second batch of the second epoch
    images, labels = next(iter(data.train_batches(step)))
    split, seed = data._splits["train"], tf.constant([11, step], tf.int64)
    corners = tf.random.stateless_uniform([6, 2], seed, maxval=9, dtype=tf.int32)
    coins = tf.random.stateless_uniform([6, 1], seed + 1)
    for n in range(6):
        number = int(
            tf.random.experimental.index_shuffle(
                tf.constant((step - steps) * 6 + n, tf.int64),
                seed=tf.constant([11, 1], tf.int64),
                max_index=1256,
            )
        )
        assert labels[n] == split.labels[number]
        picture = (split.images[number].numpy() - np.array(data.mean)) / data.std
        padded = np.pad(picture, [(4, 4), (4, 4), (0, 0)])  # 0 is the mean colour
        top, left = corners[n].numpy()
        expected = padded[top : top + 32, left : left + 32]
        if coins[n, 0] < 0.5:
            expected = expected[:, ::-1]
        np.testing.assert_allclose(images[n], expected, atol=1e-5)


def test_without_flip_nothing_is_mirrored():
    image = np.arange(12.0, dtype="float32").reshape(1, 3, 4, 1)
    images = tf.repeat(image, 50, axis=0)
    results = mirror_and_shift(images, tf.constant([0, 0]), padding=0, flip=False)
    np.testing.assert_array_equal(results, images)


def test_a_batch_that_cannot_be_filled_is_refused():
    data = kd.data.Digits(batch_size=2000)
    data.setup("fit")
    with pytest.raises(ValueError, match="batch_size=2000"):
        data.train_dataset()
    with pytest.raises(ValueError, match="1 or more"):
        kd.data.Digits(batch_size=0)


def test_lightnings_names_are_refused_with_ours():
    with pytest.raises(TypeError, match="train_dataset"):
        type("Mine", (kd.data.DataModule,), {"train_dataloader": lambda self: None})


# --- CIFAR-10 --------------------------------------------------------------------


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("requests.head", refuse)


def test_missing_cifar10_names_three_ways_out(tmp_path, no_network):
    with pytest.raises(kd.data.DataUnavailableError) as error:
        kd.data.CIFAR10(data_dir=tmp_path).prepare_data()
    for word in (str(tmp_path), "--data-dir", "tfds build", "--data digits"):
        assert word in str(error.value)


def test_missing_cifar10_is_not_downloaded_unasked(tmp_path):
    with pytest.raises(kd.data.DataUnavailableError, match="download=False"):
        kd.data.CIFAR10(data_dir=tmp_path, download=False).prepare_data()


def test_digits_replace_what_cannot_be_had_and_say_so(tmp_path, no_network, capsys):
    wanted = kd.data.CIFAR10(batch_size=16, data_dir=tmp_path, augment=False, seed=7)
    data = kd.data.prepared_or_digits(wanted)
    assert isinstance(data, kd.data.Digits)
    assert (data.batch_size, data.augment, data.seed) == (16, False, 7)
    assert "This is NOT CIFAR10" in capsys.readouterr().err


def test_tfds_data_dir_is_the_default(monkeypatch, tmp_path):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    assert kd.data.CIFAR10().data_dir == str(tmp_path)
    assert kd.data.CIFAR10(data_dir="here").data_dir == "here"


def test_validation_size_is_checked():
    with pytest.raises(ValueError, match=r"0\.\.49,999"):
        kd.data.CIFAR10(validation_size=50_000)


def test_cifar10_holds_out_validation(monkeypatch):
    """The split, on a CIFAR-10 of 100 pictures, with no file read."""
    images = np.arange(100, dtype="uint8").reshape(-1, 1, 1, 1)
    images = np.broadcast_to(images, (100, 32, 32, 3))
    labels = np.arange(100) % 10
    monkeypatch.setattr(
        "keras_densenet.data.cifar.read", lambda builder, split: (images, labels)
    )
    data = kd.data.CIFAR10(batch_size=10, validation_size=30)
    data.setup("fit")
    held_out = data._splits["val"].images.numpy()[:, 0, 0, 0]
    assert list(held_out) == list(range(70, 100))
    assert int(data.train_dataset().cardinality()) == 7
    everything = kd.data.CIFAR10(batch_size=10, validation_size=0)
    everything.setup("fit")
    assert everything.val_dataset() is None
    assert int(everything.train_dataset().cardinality()) == 10


@pytest.mark.slow
@pytest.mark.skipif(
    not os.environ.get("TFDS_DATA_DIR"), reason="TFDS_DATA_DIR names no CIFAR-10"
)
def test_real_cifar10():
    data = kd.data.CIFAR10(batch_size=500, augment=False)
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    train, val, test = (
        kd.data.Split(*(tensor.numpy() for tensor in data._splits[name]))
        for name in ("train", "val", "test")
    )
    assert (len(train), len(val), len(test)) == (45_000, 5_000, 10_000)
    # Each class has 5,000 of the 50,000 training and 1,000 of the 10,000 test pictures.
    np.testing.assert_array_equal(
        np.bincount(train.labels) + np.bincount(val.labels), [5_000] * 10
    )
    np.testing.assert_array_equal(np.bincount(test.labels), [1_000] * 10)
    images = np.concatenate([images for images, _ in data.train_dataset()])
    assert images.mean() == pytest.approx(0.0, abs=0.05)
    assert images.std() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(
        train.images.mean(axis=(0, 1, 2)), keras.ops.array(data.mean), atol=2.0
    )
