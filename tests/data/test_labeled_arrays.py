import numpy as np
import pytest
import tensorflow as tf

import keras_densenet as kd
from keras_densenet.data import Arrays

IMAGES = np.arange(6 * 2 * 2 * 1).reshape(6, 2, 2, 1)  # 0..23
LABELS = np.array([0, 1, 2, 0, 1, 2])


def test_what_is_known_of_arrays():
    data = Arrays(IMAGES.astype("uint8"), LABELS[:, None], batch_size=3, seed=1)
    assert (data.num_classes, data.input_shape) == (3, (2, 2, 1))
    assert data.class_names == ("0", "1", "2")
    assert data.mean == (11.5,)  # of 0..23, whose variance is (24^2 - 1) / 12
    assert data.std == (pytest.approx(((24**2 - 1) / 12) ** 0.5),)
    data.setup("fit")
    batches = list(data.train_dataset())
    assert [len(labels) for _, labels in batches] == [3, 3]
    raw = np.concatenate([x for x, _ in batches]) * data.std + data.mean
    labels = np.concatenate([y for _, y in batches])
    order = np.argsort(raw[:, 0, 0, 0])
    np.testing.assert_allclose(raw[order], IMAGES, atol=1e-4)
    np.testing.assert_array_equal(labels[order], LABELS)
    assert data.val_dataset() is None
    data.setup("test")
    assert data.test_dataset() is None
    assert data.predict_dataset() is None


def test_each_channel_has_its_own_moments_in_pieces(monkeypatch):
    monkeypatch.setattr("keras_densenet.data.raw_arrays.AT_A_TIME", 4)
    images = np.random.default_rng(0).integers(0, 256, (10, 3, 2, 3))
    images[..., 2] = 7  # which has no variance
    data = Arrays(images, np.arange(10) % 2, batch_size=2)
    flat = images.reshape(-1, 3)
    np.testing.assert_allclose(data.mean, flat.mean(0))
    np.testing.assert_allclose(data.std, [*flat.std(0)[:2], 1.0])


def test_floats_up_to_one_are_read_as_0_to_255():
    data = Arrays(IMAGES / np.float32(23), LABELS, batch_size=6, augment=False)
    assert data.mean == pytest.approx((127.5,))
    data = Arrays(IMAGES.astype("float64"), LABELS, batch_size=6)
    assert data.mean == pytest.approx((11.5,))


def test_probabilities_stay_as_they_are():
    data = Arrays(IMAGES, np.eye(4)[LABELS], batch_size=6)
    assert (data.num_classes, data.soft_labels) == (4, True)
    data.setup("fit")
    ((_, labels),) = data.train_dataset()
    assert labels.shape == (6, 4)
    with pytest.raises(ValueError, match="class numbers here"):
        Arrays(IMAGES, np.eye(4)[LABELS], strong={"mixup": 0.2})


def test_a_share_is_held_out_and_is_not_trained_on():
    numbers = np.arange(20)
    images = np.broadcast_to(numbers[:, None, None, None], (20, 2, 2, 1))
    given = {"batch_size": 5, "validation_split": 0.25, "seed": 3}
    splits = []
    for _ in range(2):
        data = Arrays(images, numbers % 2, **given)
        data.setup("fit")
        train, val = (
            {int(n) for n in np.ravel(data._splits[split].images[:, 0, 0, 0])}
            for split in ("train", "val")
        )
        assert (len(train), len(val)) == (15, 5)
        assert train | val == set(range(20))
        assert data.mean == (pytest.approx(np.mean(list(train))),)
        splits.append(val)
    assert splits[0] == splits[1]


@pytest.mark.parametrize(
    ("arguments", "options", "said"),
    [
        (
            (IMAGES[..., 0], LABELS),
            {},
            r"\(6, 2, 2\)\. Give images\[\.\.\., np.newaxis\] if these are pictures",
        ),
        ((IMAGES[0].repeat(3, -1), LABELS), {}, r"Give images\[np.newaxis\]"),
        ((np.zeros((6, 3, 9, 9)), LABELS), {}, r"moveaxis\(images, 1, -1\)"),
        ((IMAGES, LABELS), {"strong": True}, r'\{"mixup": 0.2\}. .*strong=True'),
        ((IMAGES, LABELS), {"batch_size": "2"}, "whole number.*batch_size='2'"),
        ((IMAGES, LABELS[:5]), {}, "6 pictures and 5 labels"),
        ((IMAGES - 1, LABELS), {}, "raw ones.*-1..22"),
        ((IMAGES + np.nan, LABELS), {}, "raw ones"),
        (
            (IMAGES, LABELS + 1),
            {"num_classes": 3},
            r"0..2, for 3.*also: 3\. .*labels - 1",
        ),
        ((IMAGES, LABELS - 1), {}, "also: -1"),
        ((IMAGES, LABELS + 0.5), {}, "whole numbers"),
        ((IMAGES, LABELS * 0), {}, "of one class, 0"),
        ((IMAGES, np.array(list("abcabc"))), {}, "np.unique"),
        ((IMAGES, np.eye(3)[LABELS] * 2), {}, "sum is 1"),
        ((IMAGES, LABELS), {"class_names": ["a", "b"]}, "0..1, for 2.*also: 2"),
        ((IMAGES, LABELS), {"class_names": list("abc"), "num_classes": 4}, "one of"),
        ((IMAGES, LABELS), {"validation_data": IMAGES}, "validation_data: two arrays"),
        (
            (IMAGES, LABELS),
            {"validation_data": (IMAGES[:, :1], LABELS)},
            r"validation_data: pictures have the shape \(N, \*\(1, 2, 1\)\)",
        ),
        (
            (IMAGES, LABELS),
            {"test_data": (IMAGES, LABELS + 5)},
            "test_data: labels.*also: 5, 6, 7",
        ),
        ((IMAGES, LABELS), {"validation_split": 1.0}, "0 <= x < 1"),
    ],
)
def test_what_cannot_be_trained_on_is_refused(arguments, options, said):
    with pytest.raises(ValueError, match=said):
        Arrays(*arguments, **options)


def test_labels_that_count_from_1_are_told():
    with pytest.warns(UserWarning, match="No label is 0.* are 4.*labels - 1"):
        Arrays(IMAGES, LABELS + 1)


def batches(labels=LABELS, images=IMAGES):
    both = (images.astype("float32"), labels)
    return tf.data.Dataset.from_tensor_slices(both).batch(3)


def test_datasets_are_given_as_they_are():
    data = kd.data.Datasets(batches(), batches(LABELS[:3], IMAGES[:3]))
    assert (data.num_classes, data.input_shape) == (3, (2, 2, 1))
    assert data.class_names == ("0", "1", "2")
    assert len(list(data.val_dataset())) == 1
    assert data.test_dataset() is data.predict_dataset() is None
    assert not hasattr(data, "mean")
    tested = data.with_split("test", batches())
    assert next(iter(tested.predict_dataset())).shape == (3, 2, 2, 1)
    assert data.test_dataset() is None
    assert kd.data.Datasets(batches(np.eye(5)[LABELS])).num_classes == 5


def test_datasets_of_several_labels():
    """Of four labels those of whole numbers become floats, as NaN must be one."""
    rows = np.eye(4, dtype=int)[LABELS]
    data = kd.data.Datasets(batches(rows), batches(rows), labels="several")
    assert (data.labels, data.soft_labels, data.num_classes) == ("several", False, 4)
    given = data.with_split("test", batches(rows))
    for dataset in (data.train_dataset(), data.val_dataset(), given.test_dataset()):
        _, labels = next(iter(dataset))
        assert labels.dtype == "float32"
        np.testing.assert_array_equal(labels, rows[:3])
    with pytest.raises(ValueError, match=r"needs labels .*newaxis"):
        data.with_split("test", batches(LABELS))
    one = kd.data.Datasets(batches(rows[:, :1]), labels="several")
    assert (one.num_classes, one.class_names) == (1, ("0",))
    assert next(iter(one.train_dataset()))[1].shape == (3, 1)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: kd.data.Datasets(), "one dataset at least"),
        (lambda: kd.data.Datasets(batches().unbatch()), r"train.batch\(64\)"),
        (lambda: kd.data.Datasets(batches().map(lambda x, y: x)), "pictures, labels"),
        (lambda: kd.data.Datasets(batches(), labels="many"), "labels must be"),
        (lambda: kd.data.Datasets(batches(), labels="several"), r"\(N, classes\)"),
        (lambda: kd.data.Datasets(batches(), IMAGES), "validation must be a tf.data"),
        (lambda: kd.data.Datasets(batches().repeat()).num_classes, "num_classes="),
        (lambda: kd.data.Datasets(batches(LABELS * 0)).num_classes, r"in 0\.\.0"),
        (lambda: kd.data.Datasets(test=batches()).train_dataset(), "train="),
    ],
)
def test_other_datasets_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


# --- groups ----------------------------------------------------------------------


def of_patients(**options):
    """Sixty pictures of twenty patients, three of each, of two classes."""
    patients = np.repeat(np.arange(20), 3)
    images = np.arange(60).reshape(60, 1, 1, 1).repeat(2, 1).repeat(2, 2)
    data = Arrays(images, patients % 2, 5, groups=patients, **options)
    data.setup("fit")
    return data


def shown(data, split):
    return {int(n) for n in np.ravel(data._splits[split].images[:, 0, 0, 0])}


def test_no_patient_is_trained_and_validated_on():
    data = of_patients(validation_split=0.2)
    train, val = shown(data, "train"), shown(data, "val")
    assert train | val == set(range(60))
    assert not {n // 3 for n in train} & {n // 3 for n in val}
    assert len(val) == 12  # 20 % are four patients, two of each class
    assert sorted(n // 3 % 2 for n in val) == [0] * 6 + [1] * 6
    members = data.members("val")
    assert set(members.numbers.tolist()) == val
    assert members.groups.tolist() == [str(n // 3) for n in members.numbers]
    assert data.mean == (pytest.approx(np.mean(list(train))),)
    again = of_patients(validation_split=0.2)
    assert shown(again, "val") == val


def test_folds_keep_patients_together():
    seen = []
    for number in range(1, 5):
        fold = of_patients().fold(number, 4)
        fold.setup("fit")
        val = shown(fold, "val")
        assert not {n // 3 for n in val} & {n // 3 for n in shown(fold, "train")}
        assert fold.members("val").groups.tolist() == [str(n // 3) for n in sorted(val)]
        seen += val
    assert sorted(seen) == list(range(60))


def test_groups_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match=r"each of 6 .*the shape \(5,\)"):
        Arrays(IMAGES, LABELS, groups=range(5))
    given = {"validation_data": (IMAGES, LABELS)}
    with pytest.raises(ValueError, match=r"no validation_data.*, and validation_data"):
        Arrays(IMAGES, LABELS, groups=range(6), **given)
