"""ImageNet without ImageNet: TFDS's mock, archives made here, a folder made here."""

import io
import tarfile

import numpy as np
import pytest
import tensorflow as tf
import tensorflow_datasets as tfds
from PIL import Image

import keras_densenet as kd

SYNSETS = ("n01440764", "n01443537", "n15075141")  # classes 0, 1 and 999
PICTURES = 4  # a class


def jpeg(shade, side=40):
    """Encode a picture of one grey, which a crop, mirrored, still is."""
    stream = io.BytesIO()
    Image.new("RGB", (side, side + 9), (shade,) * 3).save(stream, "JPEG", quality=100)
    return stream.getvalue()


def add(archive, name, content):
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """The two archives with twelve and three pictures, named and packed as they are."""
    folder = tmp_path_factory.mktemp("archives")
    with tarfile.open(folder / "ILSVRC2012_img_train.tar", "w") as train:
        for label, synset in enumerate(SYNSETS):
            stream = io.BytesIO()
            with tarfile.open(fileobj=stream, mode="w") as one_class:
                for n in range(PICTURES):
                    shade = 20 * (PICTURES * label + n)
                    add(one_class, f"{synset}_{n}.JPEG", jpeg(shade))
            add(train, f"{synset}.tar", stream.getvalue())
    with tarfile.open(folder / "ILSVRC2012_img_val.tar", "w") as val:
        for n in range(1, 4):
            add(val, f"ILSVRC2012_val_{n:08}.JPEG", jpeg(60 * n, side=300))
    return folder


@pytest.fixture(scope="module")
def prepared(archives, tmp_path_factory):
    """TFDS's files, in three shards."""
    data_dir = tmp_path_factory.mktemp("tfds")
    builder = tfds.builder("imagenet2012", data_dir=data_dir)
    config = tfds.download.DownloadConfig(manual_dir=archives, num_shards=3)
    builder.download_and_prepare(download_config=config)
    return data_dir


def plain(data_dir, **options):
    """ImageNet whose pictures are still of the grey that they were."""
    options = {"augment": False, "image_size": 8, "seed": 3} | options
    return kd.data.ImageNet(5, data_dir, **options)


def shades(images, data):
    pixels = np.asarray(images) * data.std + data.mean
    assert np.ptp(pixels, axis=(1, 2, 3)).max() < 3
    return np.rint(pixels.mean(axis=(1, 2, 3)) / 20).astype(int).tolist()


def test_it_is_prepared_from_its_archives(archives, tmp_path):
    data = kd.data.ImageNet(3, tmp_path, manual_dir=archives, image_size=32)
    assert data.num_classes == len(data.class_names) == 1000
    assert (data.class_names[1], data.class_names[999]) == SYNSETS[1:]
    data.prepare_data()
    data.setup("fit")
    assert int(data.train_dataset().cardinality()) == 4  # 12 // 3
    ((images, labels),) = data.val_dataset()
    assert images.shape == (3, 32, 32, 3)
    # TFDS stores them in an order of its own.
    shown = dict(zip(shades(images, data), labels.numpy().tolist(), strict=True))
    assert shown == {3: 65, 6: 970, 9: 230}  # the labels of the first three
    ((again, _),) = data.test_dataset()
    np.testing.assert_array_equal(again, images)


def test_an_epoch_shows_pictures_once_in_an_order_of_its_own(prepared):
    data = plain(prepared)
    batches = list(data.train_batches(0).take(6))
    epochs = []
    for first in (0, 2, 4):
        epoch = [s for x, _ in batches[first : first + 2] for s in shades(x, data)]
        assert len(set(epoch)) == 10  # two whole batches of twelve pictures
        epochs.append(tuple(epoch))
    assert len(set(epochs)) == 3
    classes = np.concatenate([labels for _, labels in batches])
    labels = [(0, 1, 999)[shade // PICTURES] for epoch in epochs for shade in epoch]
    assert classes.tolist() == labels


@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_resumed_run_sees_the_same_batches(prepared, step):
    def batches(first, many):
        data = plain(prepared, augment=True)
        return list(data.train_batches(first).take(many))

    whole = batches(0, 5)
    tf.random.set_seed(step)  # which must not matter
    for (x, y), (resumed_x, resumed_y) in zip(
        whole[step:], batches(step, 5 - step), strict=True
    ):
        np.testing.assert_array_equal(x, resumed_x)
        np.testing.assert_array_equal(y, resumed_y)


def test_another_seed_is_another_order(prepared):
    orders = []
    for seed in (3, 4):
        data = plain(prepared, seed=seed)
        orders.append([shades(x, data) for x, _ in data.train_dataset()])
    assert orders[0] != orders[1]


@pytest.mark.slow
def test_it_runs_on_tfds_mock(monkeypatch):
    monkeypatch.setattr(kd.data.ImageNet, "pictures", 8)
    with tfds.testing.mock_data(num_examples=8):
        data = kd.data.ImageNet(4, image_size=16, seed=1)
        data.prepare_data()
        data.setup("fit")
        whole = list(data.train_batches(0).take(4))
        resumed = list(data.train_batches(3).take(1))
        val = [images.shape for images, _ in data.val_dataset()]
        ten = next(iter(data.ten_crop_dataset()))[0]
    assert val == [(4, 16, 16, 3), (4, 16, 16, 3)]
    assert ten.shape == (4, 10, 16, 16, 3)
    assert whole[0][0].shape == (4, 16, 16, 3)
    np.testing.assert_array_equal(whole[3][0], resumed[0][0])


def test_without_archives_it_says_what_to_get(tmp_path):
    with pytest.raises(kd.data.DataUnavailableError) as error:
        kd.data.ImageNet(data_dir=tmp_path / "tfds", manual_dir=tmp_path).prepare_data()
    for word in ("ILSVRC2012_img_train.tar", "image-net.org", "manual_dir"):
        assert word in str(error.value)


@pytest.fixture
def folder(tmp_path):
    for split, many in (("train", PICTURES), ("val", 1)):
        for label, synset in enumerate(SYNSETS):
            (tmp_path / split / synset).mkdir(parents=True)
            for n in range(many):
                path = tmp_path / split / synset / f"{synset}_{n}.JPEG"
                path.write_bytes(jpeg(20 * (PICTURES * label + n)))
    return tmp_path


def test_a_folder_does_as_well(folder):
    data = kd.data.ImageNet(5, folder=folder, image_size=8, augment=False, seed=1)
    data.prepare_data()
    data.setup("fit")
    assert data.class_names == SYNSETS
    batches = list(data.train_batches(0).take(4))
    epoch = [s for x, _ in batches[:2] for s in shades(x, data)]
    assert len(set(epoch)) == 10
    np.testing.assert_array_equal(next(iter(data.train_batches(3)))[0], batches[3][0])
    ((images, labels),) = data.test_dataset()
    assert labels.numpy().tolist() == [0, 1, 2]
    assert shades(images, data) == [0, 4, 8]


def test_a_folder_goes_on_with_the_seed_and_batch_size_that_it_is_given(folder):
    made = [
        kd.data.ImageNet(size, folder=folder, image_size=8, seed=seed)
        for size, seed in ((5, 1), (6, 2))
    ]
    made[1].load_state_dict(made[0].state_dict())
    made[1].batch_size = 5
    batches = []
    for data in made:
        data.setup("fit")
        batches.append(next(iter(data.train_batches(1)))[0])
    np.testing.assert_array_equal(*batches)


def test_an_archive_that_was_cut_off_is_refused(archives, tmp_path):
    for archive in archives.iterdir():
        content = archive.read_bytes()
        (tmp_path / archive.name).write_bytes(content[:700])
    data = kd.data.ImageNet(data_dir=tmp_path / "tfds", manual_dir=tmp_path)
    with pytest.raises(kd.data.DataUnavailableError, match="an archive is not whole"):
        data.prepare_data()


def test_a_folder_without_validation_pictures_is_refused(folder):
    (folder / "val").rename(folder / "later")
    with pytest.raises(kd.data.DataUnavailableError, match="train/ and val/"):
        kd.data.ImageNet(folder=folder)


def test_one_place_is_enough(tmp_path):
    with pytest.raises(ValueError, match="give one"):
        kd.data.ImageNet(data_dir=tmp_path, folder=tmp_path)
