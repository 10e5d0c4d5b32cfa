"""Data of one and of three dimensions, in memory, and in files laid out as MedMNIST."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd
from keras_densenet.data import Arrays, mirror_and_shift
from keras_densenet.errors import MisconfigurationError

RNG = np.random.default_rng(0)
LABELS = np.arange(6) % 3
SIGNALS = RNG.normal(size=(6, 20, 2)).astype("float32")
VOLUMES = RNG.integers(-1000, 3000, (6, 4, 5, 6, 1)).astype("int16")


# --- augmentation ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("sides", "flip", "size"),
    [
        ((9,), (0,), None),
        ((9,), (), (5,)),
        ((3, 4, 2), (0, 2), None),
        ((3, 4, 3), (1,), (2, 4, 3)),
    ],
)
def test_what_is_trained_on_are_windows_of_what_was_padded(sides, flip, size):
    """Each is one window of one of the mirrored ones, and every window occurs."""
    images = RNG.normal(size=(300, *sides, 2)).astype("float32")
    seed = tf.constant([3, 5])
    results = mirror_and_shift(tf.constant(images), seed, 1, flip, size).numpy()
    size = size or sides
    assert results.shape == (300, *size, 2)
    corners = list(
        itertools.product(
            *(range(side + 2 - w + 1) for side, w in zip(sides, size, strict=True))
        )
    )
    mirrors = [some for n in range(4) for some in itertools.combinations(flip, n)]
    seen = []
    for image, result in zip(images, results, strict=True):
        padded = np.pad(image, [*[(1, 1)] * len(sides), (0, 0)])
        found = [
            (corner, some)
            for corner in corners
            for some in mirrors
            if np.array_equal(result, np.flip(window(padded, corner, size), some))
        ]
        assert len(found) == 1
        seen += found
    assert {corner for corner, _ in seen} == set(corners)
    for axis in flip:  # 300 coins: five standard deviations around a half
        assert 106 < sum(axis in some for _, some in seen) < 194


def window(image, corner, size):
    return image[tuple(slice(c, c + w) for c, w in zip(corner, size, strict=True))]


def test_what_is_not_trained_on_is_cut_in_the_middle():
    """Of 4 an odd 1 is cut off in front; of 5 are 1 and 1; of 6 are 2 and 2."""
    data = Arrays(
        VOLUMES, LABELS, 6, crop=(3, 3, 2), test_data=(VOLUMES, LABELS), mean=[0.0]
    )
    assert data.input_shape == (3, 3, 2, 1)
    data.setup("test")
    ((shown, _),) = data.test_dataset()
    raw = VOLUMES[:, 1:4, 1:4, 2:4]
    np.testing.assert_allclose(shown, raw / data.std, rtol=1e-5)


def test_windows_to_train_on_are_cut_at_random_without_augmentation_too():
    steps = np.arange(20.0).reshape(1, 20, 1)  # a window's first number is its place
    data = Arrays(np.tile(steps, (6, 1, 1)), LABELS, 6, crop=5, mean=[0], std=[1])
    data.setup("fit")
    batches = [images.numpy() for images, _ in data.train_batches(0).take(40)]
    windows = np.concatenate(batches)[..., 0]
    assert set(windows[:, 0]) == set(range(16))
    np.testing.assert_array_equal(windows, windows[:, :1] + np.arange(5))


@pytest.mark.parametrize("images", [SIGNALS, VOLUMES], ids=["signals", "volumes"])
def test_a_batch_is_a_function_of_its_number(images):
    options = {"seed": 7, "augment": True, "mirror": (0,), "shift": 1}
    data = Arrays(images, LABELS, 2, **options)
    data.setup("fit")
    whole = [image.numpy() for image, _ in data.train_batches(0).take(7)]
    resumed, _ = next(iter(data.train_batches(6)))
    np.testing.assert_array_equal(resumed, whole[6])
    assert not np.array_equal(whole[0], whole[3])  # another epoch


# --- what they are ---------------------------------------------------------------


def test_values_stay_in_their_own_unit():
    data = Arrays(VOLUMES, LABELS, 6)
    assert data.input_shape == (4, 5, 6, 1)
    np.testing.assert_allclose(data.mean, VOLUMES.mean(dtype="float64"))
    np.testing.assert_allclose(data.std, VOLUMES.std(dtype="float64"))
    data.setup("fit")
    assert data._splits["train"].images.dtype == "int16"
    ((shown, _),) = data.train_dataset()
    expected = (VOLUMES - np.array(data.mean)) / data.std
    np.testing.assert_allclose(
        np.sort(np.ravel(shown)), np.sort(expected.ravel()), 1e-5
    )
    # 1e-12 is a usual field of the heart's in tesla: what is small is not constant.
    tiny = Arrays(SIGNALS * np.float32(1e-12), LABELS, 6)
    np.testing.assert_allclose(tiny.std, SIGNALS.std((0, 1)) * 1e-12, rtol=1e-4)
    # Far from 0, as pascals are, squares would cancel.
    far = Arrays(1e6 + SIGNALS.astype("float64"), LABELS, 6)
    shown = (1e6 + SIGNALS).astype("float32")
    np.testing.assert_allclose(far.std, shown.std((0, 1), dtype="float64"), rtol=1e-3)
    np.testing.assert_allclose(far.mean, shown.mean((0, 1), dtype="float64"))
    flat = Arrays(np.full((6, 20, 1), 7.3), LABELS, 6)
    assert (flat.mean, flat.std) == ((pytest.approx(7.3),), (1.0,))


def test_moments_are_the_same_piece_by_piece(monkeypatch):
    monkeypatch.setattr("keras_densenet.data.raw_arrays.VALUES", 100)
    data = Arrays(SIGNALS, LABELS, 6)
    np.testing.assert_allclose(data.mean, SIGNALS.mean((0, 1)), rtol=1e-5)
    np.testing.assert_allclose(data.std, SIGNALS.std((0, 1)), rtol=1e-5)


@pytest.mark.parametrize(
    ("images", "options", "said"),
    [
        (np.zeros((6, 28, 28)), {}, "if these are pictures.*28 steps and 28 .*rank=1"),
        (np.zeros((6, 12, 90)), {}, r"rank=1; .* give np.moveaxis\(signals, 1, -1\)"),
        (np.zeros((6, 28, 28, 28)), {}, r"Give images\[\.\.\., np.newaxis\].* rank=2"),
        (np.zeros((6, 1, 8, 9, 9)), {}, r"volumes have .* last.*moveaxis\(images, 1,"),
        (np.zeros((6, 4, 12, 12, 20)), {}, r"moveaxis\(images, 1, -1\).* rank=3"),
        (np.zeros((6, 2, 28, 28, 28)), {}, r"moveaxis\(images, 1, -1\).* 28 channels"),
        (VOLUMES, {"rank": 4}, "rank is 1 for signals.*rank=4"),
        (np.zeros((6, 9, 9, 1)), {"rank": 3}, r"\(N, D, H, W, channels\).*newaxis"),
        (VOLUMES * np.nan, {}, "NaNs.*nan_to_num"),
        (SIGNALS.astype("float64") * 1e39, {}, "float32's"),
        (SIGNALS.astype("str"), {}, "signals are numbers"),
        (VOLUMES, {"mirror": True}, r"nobody knows which axis.*mirror=\(2,\)"),
        (VOLUMES, {"mirror": (3,)}, r"from 0, .* to 2: .*mirror=\(3,\)"),
        (VOLUMES, {"mirror": 0}, r"such as mirror=\(2,\)\. Received: mirror=0"),
        (VOLUMES, {"mirror": (1.0,)}, r"mirror=\(1.0,\)"),
        (VOLUMES, {"crop": True}, "crop=True"),
        (VOLUMES, {"shift": True}, "shift=True"),
        (VOLUMES, {"crop": (5, 5, 5)}, r"out of \(4, 5, 6\).*crop=\(5, 5, 5\)"),
        (VOLUMES, {"crop": (4, 5)}, r"a number for each axis.*crop=\(4, 5\)"),
        (VOLUMES, {"crop": 2.5}, "crop=2.5"),
        (VOLUMES, {"shift": -1}, "shift=-1"),
        (VOLUMES, {"strong": {"cutout": 0.5}}, r"for pictures.*\(4, 5, 6, 1\)"),
    ],
)
def test_what_may_mean_two_things_or_nothing_is_refused(images, options, said):
    with pytest.raises(ValueError, match=said):
        Arrays(images, LABELS, 6, **options)


def test_what_is_said_of_the_axes_is_believed():
    assert Arrays(np.zeros((6, 12, 9)), LABELS, 6, rank=1).input_shape == (12, 9)
    spectral = Arrays(np.zeros((6, 9, 9, 99)), LABELS, 6, rank=2)
    assert (spectral.input_shape, spectral.mirror) == ((9, 9, 99), True)
    assert Arrays(VOLUMES, LABELS, 6).mirror is False


def test_an_attribute_of_a_subclass_replaces_weights_and_sizes():
    class Mine(Arrays):
        size = 8

        def __init__(self):
            super().__init__(VOLUMES, LABELS, 6)
            self.class_weight = {0: 1.0, 1: 2.0, 2: 3.0}

    assert Mine().class_weight == {0: 1.0, 1: 2.0, 2: 3.0}
    assert Mine().short_side == 4


def test_what_is_predicted_has_the_whole_size_or_the_windows():
    data = Arrays(VOLUMES, LABELS, 6, crop=(2, 3, 4))
    for images in (VOLUMES, VOLUMES[:, 1:3, 1:4, 1:5]):  # the middle of each
        asked = data.with_split("predict", images)
        asked.setup("predict")
        (shown,) = asked.predict_dataset()
        raw = VOLUMES[:, 1:3, 1:4, 1:5]
        np.testing.assert_allclose(shown * data.std + data.mean, raw, atol=0.01)
    with pytest.raises(ValueError, match=r"\(4, 5, 6, 1\): give such, or \(2, 3, 4, 1"):
        data.with_split("predict", VOLUMES[:, :, :4])


def test_mirrored_views_are_asked_for_where_they_were_trained_on():
    data = Arrays(VOLUMES, LABELS, 6, mirror=(0,), test_data=(VOLUMES, LABELS))
    data.setup("test")
    with pytest.raises(MisconfigurationError, match=r"mirror=\(0,\)"):
        data.predict_views("flip")
    data = Arrays(VOLUMES, LABELS, 6, mirror=(2,), test_data=(VOLUMES, LABELS))
    data.setup("test")
    (views,) = data.predict_views("flip")
    np.testing.assert_array_equal(views[:, 1], views[:, 0, :, :, ::-1])


# --- several labels --------------------------------------------------------------


SEVERAL = np.array([[1, 0], [0, 1], [1, 1], [0, 0], [np.nan, 1], [0, np.nan]])


def test_several_labels():
    data = Arrays(VOLUMES, SEVERAL, 6, multi_label=True, class_names=["a", "b"])
    assert (data.labels, data.num_classes, data.soft_labels) == ("several", 2, False)
    data.setup("fit")
    ((images, labels),) = data.train_dataset()
    raw = np.rint(images * data.std + data.mean)
    for image, label in zip(raw, labels, strict=True):
        (number,) = np.flatnonzero((image == VOLUMES).all((1, 2, 3, 4)))
        np.testing.assert_array_equal(label, SEVERAL[number])
    ten = Arrays(
        np.tile(VOLUMES, (4, 1, 1, 1, 1)), np.tile(SEVERAL, (4, 1)), 6, multi_label=True
    )
    ten.fold(1, 2).setup("fit")


def test_rare_labels_are_made_up_for():
    """Of a it is known of 5 pictures, 2 of which have it; of b of 5, which 3 have."""
    data = Arrays(VOLUMES, SEVERAL, 6, multi_label=True)
    assert data.positive_weight.tolist() == [3 / 2, 2 / 3]
    one = Arrays(VOLUMES, [0, 0, 0, 1, 1, 2], 6)
    assert one.class_weight == {0: 6 / 9, 1: 6 / 6, 2: 6 / 3}
    assert one.positive_weight.tolist() == [3 / 3, 4 / 2, 5 / 1]
    hot = Arrays(VOLUMES, np.eye(3)[[0, 0, 0, 1, 1, 2]], 6)
    assert hot.class_weight == one.class_weight


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        (SEVERAL[:, 0], r"labels\[:, np.newaxis\]"),
        (SEVERAL * 2, "1 where a picture has one"),
        (SEVERAL * [1, 0], "has the labels b"),
        (np.nan_to_num(SEVERAL) * 0 + [1, 0], "without the labels a|has the labels b"),
    ],
)
def test_labels_of_which_nothing_can_be_learnt_are_refused(labels, said):
    with pytest.raises(ValueError, match=said):
        Arrays(
            VOLUMES, labels, 6, multi_label=True, class_names=["a", "b"][: labels.ndim]
        ).setup("fit")


# --- files -----------------------------------------------------------------------


def write(path, train, labels, **others):
    splits = {"train_images": train, "train_labels": labels, **others}
    np.savez_compressed(path, **splits)
    return path


def test_medmnists_files_are_read(tmp_path):
    """Labels are `(N, 1)` there, and volumes and gray pictures have no channels."""
    volumes = RNG.integers(0, 256, (6, 7, 7, 7)).astype("uint8")
    labels = LABELS[:, np.newaxis].astype("uint8")
    path = write(
        tmp_path / "organ.npz",
        volumes,
        labels,
        val_images=volumes[:2],
        val_labels=labels[:2],
        test_images=volumes[2:],
        test_labels=labels[2:],
    )
    data = Arrays.from_npz(path, 3, class_names=["liver", "kidney", "heart"])
    assert (data.input_shape, data.num_classes) == ((7, 7, 7, 1), 3)
    assert (data.labels, data.class_names[0]) == ("one", "liver")
    data.setup("fit")
    assert len(data._splits["train"]) == 6
    ((val, val_labels),) = data.val_dataset()
    expected = (volumes[:2, ..., np.newaxis] - np.array(data.mean)) / data.std
    np.testing.assert_allclose(val, expected, atol=1e-5)
    assert val_labels.numpy().tolist() == [0, 1]
    data.setup("test")
    assert sum(len(labels) for _, labels in data.test_dataset()) == 4
    for pictures, shape in (((6, 9, 9), (9, 9, 1)), ((6, 9, 9, 3), (9, 9, 3))):
        path = write(tmp_path / "two.npz", np.zeros(pictures, "uint8"), labels)
        assert Arrays.from_npz(path).input_shape == shape
    path = write(tmp_path / "one.npz", SIGNALS[..., 0], labels)
    assert Arrays.from_npz(path, rank=1).input_shape == (20, 1)


def test_labels_of_several_columns_are_several_unless_each_row_is_one(tmp_path):
    gray = np.zeros((6, 9, 9), "uint8")
    chest = Arrays.from_npz(
        write(tmp_path / "chest.npz", gray, np.nan_to_num(SEVERAL).astype("uint8"))
    )
    assert (chest.labels, chest.num_classes) == ("several", 2)
    one_hot = Arrays.from_npz(write(tmp_path / "hot.npz", gray, np.eye(3)[LABELS]))
    assert (one_hot.labels, one_hot.soft_labels) == ("one", True)


def test_what_a_file_says_is_not_said_again(tmp_path):
    gray, labels = np.zeros((6, 9, 9), "uint8"), LABELS[:, np.newaxis]
    others = {"val_images": gray, "val_labels": labels, "test_images": gray[:0]}
    path = write(tmp_path / "gray.npz", gray, labels, **others, test_labels=labels[:0])
    data = Arrays.from_npz(path)
    data.setup("test")
    assert data.test_dataset() is None  # an empty split is none
    for options in ({"validation_data": (gray, labels)}, {"validation_split": 0.5}):
        with pytest.raises(ValueError, match=f"{next(iter(options))}: .*np.load"):
            Arrays.from_npz(path, **options)
    path = write(tmp_path / "signals.npz", np.zeros((6, 40, 9)), labels)
    with pytest.raises(ValueError, match="say rank=1, or rank=2"):
        Arrays.from_npz(path)
    assert Arrays.from_npz(path, rank=1).input_shape == (40, 9)


def test_other_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no file"):
        Arrays.from_npz(tmp_path / "none.npz")
    (tmp_path / "text.npz").write_text("no archive")
    np.save(tmp_path / "one.npy", SIGNALS)
    np.savez(tmp_path / "pickle.npz", train_images=np.array([{}], object))
    whole = write(tmp_path / "whole.npz", SIGNALS, LABELS).read_bytes()
    (tmp_path / "cut.npz").write_bytes(whole[: len(whole) // 2])
    for name, said in (
        ("text.npz", "damaged"),
        ("one.npy", "has no named ones"),
        ("pickle.npz", "damaged, or no file of NumPy's arrays .*pickle"),
        ("cut.npz", "damaged"),
    ):
        with pytest.raises(ValueError, match=said):
            Arrays.from_npz(tmp_path / name)
    write(tmp_path / "two.npz", SIGNALS, LABELS)
    np.savez(tmp_path / "other.npz", x_train=SIGNALS, y_train=LABELS)
    with pytest.raises(ValueError, match=r"train_images and .* has x_train, y_train"):
        Arrays.from_npz(tmp_path / "other.npz")


# --- what is built in ------------------------------------------------------------


def test_digits_in_relief_are_the_digits_from_three_sides():
    """A column is as high as its pixel is dark; seen along it, the digit is there."""
    data = kd.data.DigitVolumes(6, augment=False)
    data.setup("fit")
    volumes = data._splits["train"].images.numpy()[..., 0]
    np.testing.assert_allclose(data.mean, volumes.mean(dtype="float64"), atol=0.05)
    np.testing.assert_allclose(data.std, volumes.std(dtype="float64"), atol=0.05)
    digits = kd.data.Digits(6)
    digits.setup("fit")
    pictures, labels = digits._splits["train"]
    np.testing.assert_array_equal(data._splits["train"].labels, labels)
    gray = pictures.numpy()[:, ::2, ::2, 0]  # 16x16, a pixel being 2x2
    for n in range(9):
        # Turned back, so that its columns are along the first axis.
        lying = volumes[n].transpose(((0, 1, 2), (1, 2, 0), (2, 0, 1))[n % 3])
        heights = (lying == 255).sum(0)
        np.testing.assert_array_equal(np.round(heights * 255 / 16), gray[n])
        assert (np.diff(lying.astype(int), axis=0) <= 0).all()  # no hole below


# --- datasets --------------------------------------------------------------------


@pytest.mark.parametrize("images", [SIGNALS, VOLUMES], ids=["signals", "volumes"])
def test_datasets_have_batches_of_them(images):
    each = tf.data.Dataset.from_tensor_slices((images.astype("float32"), LABELS))
    data = kd.data.Datasets(each.batch(4), predict=each.map(lambda x, y: x).batch(4))
    assert (data.input_shape, data.num_classes) == (images.shape[1:], 3)
    full = kd.data.Datasets(each.batch(3, drop_remainder=True))
    assert full.input_shape == images.shape[1:]


def test_single_volumes_are_no_batches_of_pictures():
    for images in (VOLUMES, SIGNALS):
        each = tf.data.Dataset.from_tensor_slices((images, LABELS))
        with pytest.raises(ValueError, match=r"train.batch\(64\)"):
            kd.data.Datasets(each)


def test_single_pictures_are_no_batches_of_signals():
    each = tf.data.Dataset.from_tensor_slices((np.zeros((6, 9, 9, 3)), LABELS))
    with pytest.raises(ValueError, match=r"train.batch\(64\)"):
        kd.data.Datasets(each)
    unknown = each.map(lambda x, y: (tf.ensure_shape(x, [None, None, 3]), y))
    with pytest.raises(ValueError, match=r"train.batch\(64\)"):
        kd.data.Datasets(unknown)
    with pytest.raises(ValueError, match=r"predict.batch\(64\)"):
        kd.data.Datasets(each.batch(2), predict=each.map(lambda x, y: x))


# --- training --------------------------------------------------------------------


@pytest.mark.parametrize("images", [SIGNALS, VOLUMES], ids=["signals", "volumes"])
def test_a_network_is_trained_on_them_and_asked(images, tmp_path):
    trainer = kd.Trainer(max_epochs=1, default_root_dir=tmp_path, logger=False)
    module = kd.ImageClassifier(kd.DenseNet, blocks=(1,), growth_rate=2)
    trainer.fit(module, (images, LABELS))
    assert module.model.input_shape[1:] == images.shape[1:]
    answers = trainer.predict(module, images[:2])
    mean = images.mean(tuple(range(images.ndim - 1)), dtype="float64")
    std = images.std(tuple(range(images.ndim - 1)), dtype="float64")
    expected = module.model.predict((images[:2] - mean) / std, verbose=0)
    np.testing.assert_allclose(answers, expected, atol=1e-5)
