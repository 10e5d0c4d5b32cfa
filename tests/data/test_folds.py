"""Folds: every picture once, no group twice, each label shared out, in any order."""

import re

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from PIL import Image

import keras_densenet as kd
from keras_densenet.data import picture_files
from keras_densenet.data.digits import split_digits
from keras_densenet.training import MisconfigurationError


def save(path, shade=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8, 3), shade, "uint8")).save(path)


def folder(root, cats=12, dogs=8):
    for name, many in (("cat", cats), ("dog", dogs)):
        for n in range(many):
            save(root / name / f"{n}.png", n)
    return root


def image_folder(root, **options):
    return kd.data.ImageFolder(root, batch_size=2, image_size=8, **options)


def members(data, folds):
    """Return which pictures each fold has, and check that it trains on all others."""
    found = []
    for number in range(1, folds + 1):
        fold = data.fold(number, folds)
        fold.setup("fit")
        found.append(fold.members("val"))
        every = fold.fingerprint()
        assert every["val"]["pictures"] == len(found[-1].numbers)
    many = sum(len(it.numbers) for it in found)
    assert sorted(np.concatenate([it.numbers for it in found])) == list(range(many))
    assert every["train"]["pictures"] == many - every["val"]["pictures"]
    return found


def test_each_fold_has_its_share_of_each_class(tmp_path):
    """Of 12 cats and 8 dogs each of four folds has 3 and 2."""
    for fold in members(image_folder(folder(tmp_path)), 4):
        assert sorted(file[:3] for file in fold.files) == ["cat"] * 3 + ["dog"] * 2
        assert fold.groups is None


def test_what_is_to_test_on_is_in_no_fold(tmp_path):
    data = image_folder(folder(tmp_path), test_fraction=0.25)
    data.setup("test")
    to_test = set(data.predict_files().values())
    assert len(to_test) == 5  # 3 of 12 cats, 2 of 8 dogs
    divided = [file for fold in members(data, 3) for file in fold.files]
    assert len(divided) == 15
    assert not to_test & set(divided)
    fold = data.fold(2, 3)
    fold.setup("test")
    assert set(fold.predict_files().values()) == to_test


def test_given_validation_pictures_are_divided_with_the_others(tmp_path):
    for split, many in (("train", 4), ("val", 2), ("test", 3)):
        folder(tmp_path / split, many, many)
    files = [f for fold in members(image_folder(tmp_path), 3) for f in fold.files]
    assert len(files) == len(set(files)) == 2 * (4 + 2)
    assert {file.split("/")[0] for file in files} == {"train", "val"}


def test_no_group_is_in_two_folds(tmp_path):
    """Nine patients of 1, 2 or 3 pictures: 18, of three folds 6 each."""
    for patient in range(9):
        for n in range(1 + patient % 3):
            save(tmp_path / "ill" / f"p{patient}_{n}.png")
            save(tmp_path / "well" / f"q{patient}_{n}.png")
    folds = members(image_folder(tmp_path, group=r"([pq]\d)_"), 3)
    found = [set(fold.groups) for fold in folds]
    assert sum(len(groups) for groups in found) == len(set.union(*found)) == 18
    for fold in folds:
        names = [re.search(r"([pq]\d)_", file)[1] for file in fold.files]
        assert names == fold.groups.tolist()
        assert sum(name[0] == "p" for name in names) == 6
        assert sum(name[0] == "q" for name in names) == 6


def table(root, rows):
    for file, _, _ in rows:
        save(root / file)
    return pd.DataFrame(rows, columns=["file", "labels", "patient"])


def image_table(frame, root, **options):
    return kd.data.ImageTable(
        frame,
        images=root,
        labels="labels",
        separator="|",
        none="none",
        batch_size=2,
        image_size=8,
        **options,
    )


def test_folds_are_the_same_in_any_order_and_rare_labels_are_shared_out(tmp_path):
    """Mass is the rarest: of 6 in 12 patients each of three folds has 2."""
    labels = ["Mass|Nodule", "Nodule", "none", "Nodule", "Mass", "none"] * 4
    rows = [(f"{n}.png", it, f"p{n // 2}") for n, it in enumerate(labels)]
    rows = [r for r in rows if r[1] != "Mass" or int(r[0][:-4]) < 12]
    frame = table(tmp_path, rows)
    folds = members(image_table(frame, tmp_path, group="patient"), 3)
    again = members(
        image_table(frame.sample(frac=1, random_state=1), tmp_path, group="patient"), 3
    )
    label_of = {file: label for file, label, _ in rows}
    for fold, other in zip(folds, again, strict=True):
        assert set(fold.files) == set(other.files)
        assert sum("Mass" in label_of[file] for file in fold.files) == 2
    patients = [set(fold.groups) for fold in folds]
    assert sum(map(len, patients)) == len(set.union(*patients)) == 12


def test_pictures_without_groups_are_in_the_same_folds_in_any_order(tmp_path):
    frame = table(tmp_path, [(f"{n}.png", "ab"[n % 2], "") for n in range(16)])
    options = {"images": tmp_path, "labels": "labels", "image_size": 8, "batch_size": 2}
    folds, again = (
        members(kd.data.ImageTable(rows, **options), 4)
        for rows in (frame, frame.sample(frac=1, random_state=3))
    )
    for fold, other in zip(folds, again, strict=True):
        assert set(fold.files) == set(other.files)


def test_files_are_looked_at_once_for_all_folds(tmp_path, monkeypatch):
    looked: list[str] = []
    checked = picture_files._checked
    monkeypatch.setattr(
        picture_files, "_checked", lambda path: looked.append(path) or checked(path)
    )
    members(image_folder(folder(tmp_path)), 4)
    assert len(looked) == len(set(looked)) == 20


def test_a_broken_file_is_left_out_of_its_fold(tmp_path):
    (folder(tmp_path) / "cat" / "3.png").write_bytes(b"no picture")
    data, names = image_folder(tmp_path, on_error="skip"), []
    for number in range(1, 5):
        fold = data.fold(number, 4)
        with pytest.warns(UserWarning, match="3.png"):
            fold.setup("fit")
        names += fold.members("val").files
        assert len(fold.members("val").numbers) == len(fold.members("val").files)
    assert len(set(names)) == len(names) == 19


# --- in memory -------------------------------------------------------------------


def shades(many):
    """Return pictures of which each is of another shade, (N, 2, 2, 1)."""
    return np.arange(many, dtype="uint8").reshape(-1, 1, 1, 1).repeat(2, 1).repeat(2, 2)


def test_mean_and_deviation_are_those_of_the_folds_training_pictures():
    images, labels = shades(12) * 20, np.arange(12) % 2
    data = kd.data.Arrays(images, labels, batch_size=2)
    for number in (1, 2, 3):
        fold = data.fold(number, 3)
        fold.setup("validate")
        held_out = fold.members("val").numbers
        others = np.delete(images, held_out, axis=0).astype("float64")
        assert fold.mean == pytest.approx((others.mean(),))
        assert fold.std == pytest.approx((others.std(),))
    assert data.mean == pytest.approx((110.0,))  # 20 times 0..11
    given = kd.data.Arrays(images, labels, mean=(7.0,), std=(3.0,)).fold(1, 2)
    assert (given.mean, given.std) == ((7.0,), (3.0,))


@pytest.mark.parametrize("validation_split", [0.0, 0.25])
def test_numbers_are_those_of_the_arrays(validation_split):
    images, labels = shades(12), np.eye(2)[np.arange(12) % 2]
    extra = shades(14)[12:], np.eye(2)
    own = {} if validation_split else {"validation_data": extra}
    data = kd.data.Arrays(
        images, labels, batch_size=2, validation_split=validation_split, **own
    )
    for number, fold in enumerate(members(data, 2), 1):
        half = data.fold(number, 2)
        half.setup("validate")
        raw = [
            np.round(batch * np.array(half.std) + np.array(half.mean))[:, 0, 0, 0]
            for batch, _ in half.val_dataset()
        ]
        assert np.concatenate(raw).tolist() == fold.numbers.tolist()
        # Of 12 pictures each fold has 3 of each class, of 14 it has 3 or 4.
        half_a_class = {3} if validation_split else {3, 4}
        assert half_a_class >= set(np.bincount(fold.numbers % 2))


def test_a_picture_that_is_there_twice_is_in_one_fold():
    images = np.concatenate([shades(9), shades(9)])
    for fold in members(kd.data.Arrays(images, np.arange(18) % 3, batch_size=2), 3):
        assert set(fold.numbers) == set((fold.numbers + 9) % 18)
        assert np.bincount(fold.numbers % 3).tolist() == [2, 2, 2]


def test_no_digit_of_the_mosaics_is_in_two_folds():
    data, seen = kd.data.DigitMosaics(seed=0, unknown=0.3), []
    for number in (1, 2, 3):
        fold = data.fold(number, 3)
        splits, which = fold.load_fold(fold._fold)
        assert which.numbers.tolist() == list(range(1500 * (number - 1), 1500 * number))
        small = splits["val"].images[:, ::2, ::2, 0].reshape(-1, 2, 8, 2, 8)
        parts = small.transpose(0, 1, 3, 2, 4).reshape(-1, 64)
        seen.append({part.tobytes() for part in parts if part.any()})
        assert not np.isnan(splits["val"].labels).any()
        assert np.isnan(splits["train"].labels).mean() == pytest.approx(0.3, abs=0.02)
        assert len(splits["train"]) == 3000
    assert sum(map(len, seen)) == len(set.union(*seen))
    to_test = {digit.tobytes() for digit in split_digits()["test"][0]}
    assert not to_test & set.union(*seen)


def test_the_test_pictures_of_data_in_memory_stay():
    data = kd.data.Digits(seed=0)
    fold = data.fold(1, 5)
    fold.setup("fit")
    fold.setup("test")
    data.setup("test")
    assert len(fold.members("val").numbers) == 288  # 1,437 / 5, rounded up
    assert fold._pictures("train") == 1437 - 288
    np.testing.assert_array_equal(
        fold._splits["test"].images, data._splits["test"].images
    )


# --- what is refused -------------------------------------------------------------


def test_folds_that_cannot_be_are_refused(tmp_path):
    data = image_folder(folder(tmp_path))
    for number, folds in ((0, 5), (6, 5), (1, 1), (1.5, 5), ("1", 5)):
        with pytest.raises(MisconfigurationError, match="numbered from 1"):
            data.fold(number, folds)
    with pytest.raises(MisconfigurationError, match="are fold 1 of 5 already"):
        data.fold(1, 5).fold(1, 2)
    with pytest.raises(MisconfigurationError, match="there are 20: use fewer"):
        data.fold(1, 21).setup("fit")
    batches = tf.data.Dataset.from_tensor_slices((shades(4), [0, 1, 0, 1])).batch(2)
    with pytest.raises(MisconfigurationError, match=r"Datasets does not .*ImageTable"):
        kd.data.Datasets(batches).fold(1, 2)


def test_a_label_of_one_group_is_refused_and_a_rare_one_named(tmp_path):
    for n in range(8):
        save(tmp_path / "well" / f"p{n}_0.png")
    for n in range(3):
        save(tmp_path / "ill" / f"q0_{n}.png")
    data = image_folder(tmp_path, group=r"([pq]\d)_")
    with pytest.raises(MisconfigurationError, match=r"all pictures of: ill\."):
        data.fold(1, 2).setup("fit")
    save(tmp_path / "ill" / "q1_0.png")
    with pytest.warns(UserWarning, match="3 folds have no picture of: ill"):
        image_folder(tmp_path, group=r"([pq]\d)_").fold(1, 3).setup("fit")


@pytest.mark.parametrize("kind", ["folder", "arrays"])
def test_a_run_keeps_its_fold_and_another_one_is_refused(tmp_path, kind):
    if kind == "folder":
        data = image_folder(folder(tmp_path))
    else:
        data = kd.data.Arrays(shades(12), np.arange(12) % 2, batch_size=2)
    fold = data.fold(2, 4)
    fold.setup("fit")
    of_fold, kept = fold.members("val").numbers.tolist(), fold.state_dict()
    assert kept["fold"] == [2, 4]
    with pytest.raises(MisconfigurationError, match=r"fold 1 of 4.* is of fold 2 of 4"):
        data.fold(1, 4).keep_split(kept)
    data.setup("fit")
    with pytest.raises(MisconfigurationError, match="trained without folds"):
        fold.keep_split(data.state_dict())
    assert fold.keep_split(kept) is False
    assert data.keep_split(kept) is True  # tested from the checkpoint of a fold
    data.setup("validate")
    assert data.members("val").numbers.tolist() == of_fold
