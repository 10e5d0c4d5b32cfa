"""Pictures whose labels are in a table: what is read, held out, shown and refused."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.datasets import load_digits

import keras_densenet as kd

COLUMNS = {"file": "film", "labels": "findings", "separator": "|", "none": "none"}
NAMES = ("one", "two")


def films(folder, patients=20, nested=False):
    """Write two films of each patient; a third of the patients has nothing."""
    rows = []
    images = load_digits().images
    for patient in range(patients):
        findings = ("none", "one", "one|two")[patient % 3]
        for film in range(2):
            name = f"{patient:03}_{film}.png"
            where = folder / f"part{patient % 2}" if nested else folder
            where.mkdir(parents=True, exist_ok=True)
            pixels = (images[2 * patient + film] * 15).astype("uint8")
            Image.fromarray(pixels).save(where / name)
            rows.append({"film": name, "findings": findings, "who": f"p{patient}"})
    return pd.DataFrame(rows)


def table(frame, folder, **options):
    options = {"image_size": 8, "batch_size": 4, "channels": 1, "seed": 0, **options}
    return kd.data.ImageTable(frame, images=folder, **{**COLUMNS, **options})


def shown(dataset):
    return [np.concatenate(part) for part in zip(*dataset, strict=True)]


@pytest.mark.parametrize("nested", [False, True])
def test_pictures_have_the_labels_of_their_rows(tmp_path, nested):
    frame = films(tmp_path, nested=nested)
    fold = ["test" if row % 40 >= 36 else "train" for row in range(len(frame))]
    data = table(frame.assign(fold=fold), tmp_path, split="fold", fit="squash")
    assert (data.labels, data.class_names) == ("several", NAMES)
    assert data.input_shape == (8, 8, 1)
    data.setup("test")
    images, labels = shown(data.test_dataset())
    # Films 36 to 39 are of patients 18 and 19: nothing, and "one".
    assert labels.tolist() == [[0, 0], [0, 0], [1, 0], [1, 0]]
    raw = images * np.array(data.std) + np.array(data.mean)
    expected = (load_digits().images[36:40] * 15).astype("uint8")
    np.testing.assert_allclose(raw[..., 0], expected, atol=1e-3)
    files = [name.split("/")[-1] for name in data.predict_files().values()]
    assert files == ["018_0.png", "018_1.png", "019_0.png", "019_1.png"]


def test_patients_stay_together_and_a_run_keeps_its_split(tmp_path):
    frame = films(tmp_path, 30)
    data = table(frame, tmp_path, group="who", test_fraction=0.2)
    data.setup("fit")
    files = {s: set(data._files(s).paths) for s in ("train", "val", "test")}
    patients = {
        name: {path.split("/")[-1].split("_")[0] for path in paths}
        for name, paths in files.items()
    }
    assert sum(map(len, patients.values())) == 30
    assert all(patients.values())
    in_order = [path.split("/")[-1].split("_")[0] for path in data._files("test").paths]
    assert data.members("test").groups.tolist() == [
        f"p{int(name)}" for name in in_order
    ]
    state = data.state_dict()
    other = table(frame, tmp_path, group="who", test_fraction=0.5)
    other.setup("fit")
    assert other.keep_split(state)
    assert {s: set(other._files(s).paths) for s in files} == files
    assert other.fingerprint() == data.fingerprint()


def test_weights_of_rare_labels_by_hand(tmp_path):
    """Of 20 patients 13 have "one" and 6 "two": 26 and 12 films of 40."""
    frame = films(tmp_path)
    data = table(frame, tmp_path, validation_fraction=0)
    assert data.positive_weight.tolist() == pytest.approx([14 / 26, 28 / 12])
    columns = pd.DataFrame(
        {"film": frame.film, "a": [1, 0] * 20, "b": [1, 0, "", -1] * 10}
    )
    options = {"labels": ["a", "b"], "separator": None, "none": None}
    masked = table(columns, tmp_path, validation_fraction=0, **options)
    assert masked.positive_weight.tolist() == pytest.approx([1, 1])
    masked.setup("fit")
    _, labels = shown(masked.train_dataset())
    assert np.isnan(labels[:, 1]).sum() == 20


def test_one_class_a_row_is_as_a_folder_is(tmp_path):
    frame = films(tmp_path)
    options = {"labels": "findings", "separator": None, "none": None}
    data = table(frame, tmp_path, balanced=True, strong={"mixup": 0.2}, **options)
    assert data.labels == "one"
    assert data.class_names == ("none", "one", "one|two")
    data.setup("fit")
    _, labels = shown(data.train_dataset())
    assert labels.shape[1] == 3  # mixed


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"balanced": True}, "balanced=True shows each class as often"),
        ({"strong": {"mixup": 0.2}}, "mixup and cutmix mix the labels"),
        ({"validation_fraction": 1.0}, "validation_fraction and test_fraction"),
    ],
)
def test_what_is_for_one_class_is_refused(tmp_path, options, says):
    with pytest.raises(ValueError, match=re.escape(says)):
        table(films(tmp_path), tmp_path, **options)


def test_files_that_are_missing_or_there_twice_are_named(tmp_path):
    frame = films(tmp_path / "films")
    (tmp_path / "films" / "003_1.png").unlink()
    with pytest.raises(kd.data.TableError, match=r"1 of the 40 .* not in .*003_1"):
        table(frame, tmp_path / "films").setup("fit")
    films(tmp_path / "twice" / "a")
    films(tmp_path / "twice" / "b")
    with pytest.raises(kd.data.TableError, match=r"40 of the 40 .* more than once"):
        table(frame, tmp_path / "twice").setup("fit")
    with pytest.raises(kd.data.TableError, match=r"There is no folder .*none"):
        table(frame, tmp_path / "none").setup("fit")


def test_a_path_is_not_taken_for_another_of_the_same_name(tmp_path):
    frame = films(tmp_path / "films", nested=True)
    paths = [f"part{int(name[:3]) % 2}/{name}" for name in frame.film]
    for way in (lambda path: path, lambda path: str(tmp_path / "films" / path)):
        named = frame.assign(film=list(map(way, paths)))
        data = table(named, tmp_path / "films", validation_fraction=0)
        data.setup("fit")
        assert len(data._files("train")) == 40
    wrong = ["part1/000_0.png", *paths[1:]]  # it is in part0
    with pytest.raises(
        kd.data.TableError, match=r"1 of the 40 .* not in .*part1/000_0"
    ):
        table(frame.assign(film=wrong), tmp_path / "films").setup("fit")


def test_one_file_of_two_names_is_refused(tmp_path):
    frame = films(tmp_path)
    again = frame.assign(film=["./000_0.png", *frame.film[1:]]).head(1)
    with pytest.raises(kd.data.TableError, match=r"twice, .*: 000_0.png and ./000_0"):
        table(pd.concat([frame, again]), tmp_path).setup("fit")


@pytest.mark.parametrize("name", ["000_0", "films\\000_0.png", "a/000_0.PNG"])
def test_what_a_missing_file_may_be_called(tmp_path, name):
    frame = films(tmp_path)
    frame["film"] = [name, *frame.film[1:]]
    with pytest.raises(kd.data.TableError, match=r"1 of the 40 .* meant to be 000_0.p"):
        table(frame, tmp_path).setup("fit")


def test_a_table_to_test_on_alone(tmp_path):
    """Of no film to train on nothing is held out, and "two" is allowed to lack."""
    frame = films(tmp_path, 2).assign(fold="test")
    data = table(frame, tmp_path, split="fold", classes=NAMES)
    data.setup("test")
    _, labels = shown(data.test_dataset())
    assert labels.tolist() == [[0, 0], [0, 0], [1, 0], [1, 0]]


def test_a_folder_of_patients_is_split_by_them(tmp_path):
    for label in NAMES:
        films(tmp_path / label, 15)
    data = kd.data.ImageFolder(
        tmp_path, image_size=8, group=r"/(\d+)_", validation_fraction=0.2
    )
    data.setup("fit")
    of = {
        split: {path.split("/")[-1].split("_")[0] for path in data._files(split).paths}
        for split in ("train", "val")
    }
    assert not of["train"] & of["val"]
    assert len(of["val"]) == 3  # of 15 patients, in both folders
    assert set(data.members("val").groups) == of["val"]
    assert kd.data.ImageFolder(tmp_path, image_size=8).members("val").groups is None
    with pytest.raises(ValueError, match="one pair of parentheses"):
        kd.data.ImageFolder(tmp_path, group=r"\d+")


def test_given_folders_that_share_a_patient_are_refused(tmp_path):
    for split in ("train", "test"):
        for label in NAMES:
            films(tmp_path / split / label, 2)
    data = kd.data.ImageFolder(tmp_path, image_size=8, group=r"/(\d+)_")
    with pytest.raises(kd.data.DataUnavailableError, match=r"000 \(train, test\)"):
        data.setup("fit")
