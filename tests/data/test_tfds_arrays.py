"""CIFAR-100, SVHN and their preparation, without a network."""

import numpy as np
import pytest
import tensorflow_datasets as tfds

import keras_densenet as kd
from keras_densenet.data.arrays import Split
from keras_densenet.data.preparation import builder_of
from keras_densenet.data.svhn import held_out
from keras_densenet.data.tfds_arrays import read


@pytest.fixture
def asked(monkeypatch):
    """Addresses that are asked for a sign of life, instead of the network."""
    addresses = []
    monkeypatch.setattr("requests.head", lambda url, **kwargs: addresses.append(url))
    return addresses


@pytest.fixture
def no_network(monkeypatch):
    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("requests.head", refuse)


def pixels(data, name):
    return data._splits[name].images.numpy()


def test_cifar100_through_tfds(asked):
    data = kd.data.CIFAR100(batch_size=5, validation_size=10)
    with tfds.testing.mock_data(num_examples=40):
        data.prepare_data()
        data.setup("fit")
        data.setup("test")
    assert [len(data._splits[name]) for name in ("train", "val", "test")] == [
        30,
        10,
        40,
    ]
    images, labels = next(iter(data.test_dataset()))
    mean, std = np.array([129.3, 124.1, 112.4]), np.array([68.2, 65.4, 70.4])
    expected = (pixels(data, "test")[:5] - mean) / std
    np.testing.assert_allclose(images, expected, atol=1e-5)
    assert 0 <= labels.numpy().min() <= labels.numpy().max() < 100
    assert int(data.train_dataset().cardinality()) == 6


def test_cifar100_names_its_classes():
    names = kd.data.CIFAR100.class_names
    assert len(names) == len(set(names)) == 100
    assert list(names) == sorted(names)  # as the archive has them
    assert names[0], names[99] == ("apple", "worm")


def test_svhn_through_tfds(asked):
    data = kd.data.SVHN(batch_size=5, validation_size=60, seed=1)
    with tfds.testing.mock_data(num_examples=150):
        data.prepare_data()
        data.setup("fit")
        data.setup("test")
    sizes = [len(data._splits[name]) for name in ("train", "val", "test")]
    assert sizes == [2 * 150 - 60, 60, 150]
    held_out_labels = data._splits["val"].labels.numpy()
    np.testing.assert_array_equal(np.bincount(held_out_labels), [6] * 10)
    images, _ = next(iter(data.test_dataset()))
    np.testing.assert_allclose(images, pixels(data, "test")[:5] / 255.0, atol=1e-6)
    # Neither shifted nor mirrored: every training picture is one that is stored.
    stored = {picture.tobytes() for picture in pixels(data, "train")}
    images, _ = next(iter(data.train_dataset()))
    shown = np.rint(images.numpy() * 255).astype("uint8")
    assert {picture.tobytes() for picture in shown} <= stored


@pytest.mark.parametrize("wrong", [-30, 100, 60_030, 600_000])
def test_svhn_has_not_as_many_to_hold_out(wrong):
    with pytest.raises(ValueError, match=r"a multiple of 30 in 0\.\.60,000"):
        kd.data.SVHN(validation_size=wrong)


def test_held_out_are_the_last_of_each_class():
    labels = np.array([0, 1, 0, 1, 1, 0])
    images = np.arange(6).reshape(6, 1, 1, 1)
    rest, held = held_out(Split(images, labels), 2)
    assert held.images.ravel().tolist() == [2, 3, 4, 5]
    assert held.labels.tolist() == [0, 1, 1, 0]
    assert rest.images.ravel().tolist() == [0, 1]
    rest, held = held_out(Split(images, labels), 0)
    assert (len(rest), len(held)) == (6, 0)


def test_svhn_holds_out_the_same_number_of_each_class_or_nothing():
    assert kd.data.SVHN().validation_size == 6_000
    for size in (-30, 100):
        with pytest.raises(ValueError, match=f"multiple of 30.*{size}"):
            kd.data.SVHN(validation_size=size)


@pytest.mark.parametrize("data", [kd.data.CIFAR100, kd.data.SVHN])
def test_missing_data_name_the_ways_out(data, tmp_path, no_network):
    with pytest.raises(kd.data.DataUnavailableError) as error:
        data(data_dir=tmp_path).prepare_data()
    said = str(error.value)
    archive = {"cifar100": "cifar-100-binary.tar.gz", "svhn_cropped": "train_32x32.mat"}
    for word in (
        *(data.title, str(tmp_path), "--data-dir", f"tfds build {data.name}"),
        *("manual_dir", archive[data.name], "--data digits"),
    ):
        assert word in said


def test_archives_in_manual_dir_need_no_network(tmp_path, no_network):
    """TFDS takes the file that is there: it compares its checksum and refuses it."""
    (tmp_path / "cifar-100-binary.tar.gz").write_bytes(b"not the archive")
    data = kd.data.CIFAR100(
        data_dir=tmp_path / "tfds", manual_dir=tmp_path, download=False
    )
    with pytest.raises(kd.data.DataUnavailableError, match="NonMatchingChecksum"):
        data.prepare_data()


def test_damaged_files_are_named_and_what_to_do(tmp_path):
    builder = tfds.testing.DummyDataset(data_dir=tmp_path)
    builder.download_and_prepare()
    (file,) = builder.data_path.glob("*.tfrecord*")
    damaged = bytearray(file.read_bytes())
    damaged[-5] ^= 255
    file.write_bytes(damaged)
    with pytest.raises(
        kd.data.DataUnavailableError, match=r"(?s)corrupted.*prepared anew"
    ):
        read(builder, "train")
    file.write_bytes(b"")  # as an interrupted copy, or a full disk, leaves it
    with pytest.raises(kd.data.DataUnavailableError, match="contained only 0"):
        read(builder, "train")
    file.unlink()
    with pytest.raises(kd.data.DataUnavailableError, match="dummy_dataset"):
        read(builder, "train")
    (builder.data_path / "dataset_info.json").write_text('{"name')
    with pytest.raises(kd.data.DataUnavailableError, match="damaged or missing"):
        builder_of("dummy_dataset", "Dummy", tmp_path)


def test_the_arrays_of_a_data_module_stay_its_own():
    class Mine(kd.data.ArrayDataModule):
        num_classes, input_shape, class_names = 2, (4, 4, 3), ("a", "b")
        mean, std, title = (0, 0, 0), (1, 1, 1), "mine"

        def __init__(self):
            super().__init__(batch_size=2)
            pictures, labels = np.zeros((4, 4, 4, 3), np.uint8), np.zeros(4, np.int64)
            split = kd.data.Split(pictures, labels)
            self.splits = {"train": split, "val": split, "test": split}

        def load_splits(self, stage):
            return self.splits

    data = Mine()
    for stage in ("fit", "test"):
        data.setup(stage)
        data.teardown(stage)
    assert data.splits.keys() == {"train", "val", "test"}
    data.setup("fit")
    assert len(next(iter(data.train_dataset()))[0]) == 2


def test_a_data_dir_that_is_a_file_is_named(tmp_path, asked):
    (tmp_path / "file").write_text("")
    data = kd.data.CIFAR10(data_dir=tmp_path / "file")
    with pytest.raises(kd.data.DataUnavailableError, match="NotADirectoryError"):
        data.prepare_data()


def test_normalisation_can_be_changed():
    data = kd.data.CIFAR10(mean=(0, 1, 2), std=(3, 4, 5))
    assert (data.mean, data.std) == ((0, 1, 2), (3, 4, 5))
    assert kd.data.CIFAR10().mean == (125.3, 123.0, 113.9)
    assert kd.data.Digits(mean=[1.0, 2.0, 3.0]).mean == (1.0, 2.0, 3.0)
