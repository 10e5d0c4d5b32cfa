"""Tables of pictures and labels, by hand: what they say, and which rows are wrong."""

import gzip
import re

import numpy as np
import pandas as pd
import pytest

from keras_densenet.data import DataUnavailableError, TableError
from keras_densenet.data.image_table import split_table
from keras_densenet.data.label_table import LabelTable, read_label_table

NAN = np.nan
CHESTX = """Image Index,Finding Labels,Patient ID
00000001_000.png,Cardiomegaly,00001
00000001_001.png,Cardiomegaly|Emphysema,00001
00000002_000.png,No Finding,00002
00000003_000.png,Hernia,00003
"""
CHEXPERT = """Path,Edema,Support Devices
train/patient00001/study1/view1.jpg,1.0,
train/patient00002/study1/view1.jpg,-1.0,1.0
train/patient00002/study2/view1.jpg,0.0,0.0
"""
COLORS = """file,color,fold
a.png,red,train
b.png,NA,valid
c.png,red,test
"""
OF_CHESTX = {"file": "Image Index", "labels": "Finding Labels", "separator": "|"}
OF_CHEXPERT = {"file": "Path", "labels": ["Edema", "Support Devices"]}


def table(tmp_path, text, name="table.csv"):
    path = tmp_path / name
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("name", ["table.csv", "table.csv.gz"])
def test_names_joined(tmp_path, name):
    path = table(tmp_path, CHESTX, name)
    found = read_label_table(path, none="No Finding", group="Patient ID", **OF_CHESTX)
    assert found.class_names == ("Cardiomegaly", "Emphysema", "Hernia")
    assert found.labels.tolist() == [[1, 0, 0], [1, 1, 0], [0, 0, 0], [0, 0, 1]]
    assert found.labels.dtype == np.float32
    assert found.files[1] == "00000001_001.png"
    assert found.groups.tolist() == ["00001", "00001", "00002", "00003"]
    assert found.splits is None


@pytest.mark.parametrize(
    ("options", "edema", "devices"),
    [
        ({}, [1, NAN, 0], [NAN, 1, 0]),
        ({"uncertain": "positive"}, [1, 1, 0], [NAN, 1, 0]),
        ({"uncertain": "negative", "blank": "negative"}, [1, 0, 0], [0, 1, 0]),
    ],
)
def test_a_column_a_label(tmp_path, options, edema, devices):
    path = table(tmp_path, CHEXPERT)
    patient = r"(patient\d+)"
    found = read_label_table(path, group=patient, **OF_CHEXPERT, **options)
    assert found.class_names == ("Edema", "Support Devices")
    np.testing.assert_array_equal(found.labels[:, 0], edema)
    np.testing.assert_array_equal(found.labels[:, 1], devices)
    assert found.groups.tolist() == ["patient00001", "patient00002", "patient00002"]


def test_one_class_a_row(tmp_path):
    """ "NA" is a class here, where pandas takes it for nothing."""
    path = table(tmp_path, COLORS)
    found = read_label_table(path, file="file", labels="color", split="fold")
    assert found.class_names == ("NA", "red")
    assert found.labels.tolist() == [1, 0, 1]
    assert found.labels.dtype == np.int64
    assert found.splits.tolist() == ["train", "val", "test"]
    named = read_label_table(
        path, file="file", labels="color", classes=["red", "NA"], split="fold"
    )
    assert named.labels.tolist() == [0, 1, 0]


def test_a_frame_is_read_as_its_file_is(tmp_path):
    path = table(tmp_path, CHEXPERT)
    of_file = read_label_table(path, **OF_CHEXPERT)
    of_frame = read_label_table(pd.read_csv(path), **OF_CHEXPERT)
    np.testing.assert_array_equal(of_frame.labels, of_file.labels)
    assert of_frame.files.tolist() == of_file.files.tolist()


def test_lists_of_files(tmp_path):
    path = table(tmp_path, CHESTX)
    (tmp_path / "test_list.txt").write_text("00000003_000.png\n00000009_000.png\n")
    lists = {"test": tmp_path / "test_list.txt"}
    with pytest.warns(UserWarning, match=r"1 of the 2 files .*: 00000009_000.png\."):
        found = read_label_table(path, none="No Finding", split=lists, **OF_CHESTX)
    assert found.splits.tolist() == ["train", "train", "train", "test"]
    (tmp_path / "test_list.txt").write_text("other.png\n")
    with pytest.raises(TableError, match="None of the 1 files"):
        read_label_table(path, none="No Finding", split=lists, **OF_CHESTX)
    with pytest.raises(TableError, match="cannot be read"):
        read_label_table(path, split={"test": tmp_path / "no.txt"}, **OF_CHESTX)
    with pytest.raises(ValueError, match=r"Received: split=.*tset"):
        read_label_table(path, split={"tset": tmp_path / "no.txt"}, **OF_CHESTX)


def test_lists_of_files_that_are_not_apart_or_not_all(tmp_path):
    """The first list is as Windows' Notepad saves it, with a byte order mark."""
    path = table(tmp_path, CHESTX)
    names = [line.split(",")[0] for line in CHESTX.splitlines()[1:]]
    (tmp_path / "train.txt").write_text("\ufeff" + "\r\n".join(names[:3]))
    (tmp_path / "test.txt").write_text("\n".join(names[3:]))
    lists = {name: tmp_path / f"{name}.txt" for name in ("train", "test")}
    options = {"none": "No Finding", **OF_CHESTX}
    found = read_label_table(path, split=lists, **options)
    assert found.splits.tolist() == ["train", "train", "train", "test"]
    lists["test"].write_text("\n".join(names[2:]))
    for order in (lists, dict(reversed(lists.items()))):
        with pytest.raises(TableError, match=r"two lists have.*: line 4 \(00000002_0"):
            read_label_table(path, split=order, **options)
    lists["train"].write_text("\n".join(names[:1]))
    with pytest.raises(TableError, match=r"no list has: line 3 \(00000001_001"):
        read_label_table(path, split=lists, **options)
    with pytest.raises(ValueError, match="split is the name of a column, or has"):
        read_label_table(path, split=lists["test"], **options)


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        (CHESTX, {"file": "Index"}, "no column 'Index'. It has 'Image Index'"),
        (CHESTX, {"group": "Patient"}, "no column 'Patient'"),
        (
            CHESTX.replace("00000002_000", "00000003_000"),
            {},
            "1 row with the same Image Index as another row: line 5 (00000003",
        ),
        (
            CHESTX.replace("No Finding", "No Finding|Hernia"),
            {"none": "No Finding"},
            "'No Finding' beside other names in Finding Labels: line 4",
        ),
        (
            CHESTX,
            {"classes": ["Cardiomegaly", "Hernia"], "none": "No Finding"},
            "that are no classes: line 3 (Cardiomegaly|Emphysema)",
        ),
        (
            CHESTX,
            {"classes": ["Cardiomegaly", "Emphysema", "Hernia", "Mass", "No Finding"]},
            "no row with Mass",
        ),
        (CHESTX.replace("Hernia", ""), {}, "1 row with no Finding Labels: line 5"),
        (CHESTX.replace(",00003", ","), {"group": "Patient ID"}, "no Patient ID"),
        ("Image Index,Finding Labels\n", {}, "has no rows"),
        ("", {}, "cannot be read as a table"),
        (",,\n", {}, "has no line that names its columns"),
    ],
)
def test_rows_that_are_wrong_are_named(tmp_path, text, options, says):
    path = table(tmp_path, text)
    with pytest.raises(TableError, match=re.escape(says)):
        read_label_table(path, **OF_CHESTX | options)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (CHESTX.replace("|", "||"), "nothing before or after a '|'"),
        (CHESTX.replace("Cardiomegaly,", "cardiomegaly,"), "'Cardiomegaly' and 'card"),
        (CHESTX.replace("Hernia", "no finding"), "'No Finding' and 'no finding'"),
        (CHESTX.replace("Patient ID", " Finding Labels"), "2 columns 'Finding Labels'"),
        (CHESTX.replace(",0000", ",,0000"), "Expected 3 fields in line 2, saw 4"),
        (CHESTX.replace(",", ";"), "Its fields must be separated by commas"),
        (
            CHESTX.replace("No Finding", "Cardiomegaly|Hernia|Emphysema"),
            "no row with '",
        ),
    ],
)
def test_names_that_are_written_otherwise_than_is_meant(tmp_path, text, says):
    path = table(tmp_path, text)
    with pytest.raises(TableError, match=re.escape(says)):
        read_label_table(path, none="No Finding", **OF_CHESTX)


def test_lines_are_those_of_the_file(tmp_path):
    """Of 'a\\nb' in line 3 and a line of nothing: the empty label is in line 6."""
    text = 'file,label,note\na,x,\nb,y,"a\nb"\n\nc,,\n'
    with pytest.raises(TableError, match=r"1 row with no label: line 6\."):
        read_label_table(table(tmp_path, text), file="file", labels="label")
    for name in ("table.zip", "table.csv.xz", "table.tar"):
        with pytest.raises(TableError, match="cannot be read as a table"):
            read_label_table(table(tmp_path, text, name), file="file", labels="label")


def test_kinds_of_a_frame():
    """Classes by number, and the kinds of truth that pandas has."""
    of = {"file": [1, 2, 3], "label": [10, 2, 9]}
    found = read_label_table(pd.DataFrame(of), file="file", labels="label")
    assert found.class_names == ("2", "9", "10")
    assert found.labels.tolist() == [2, 0, 1]
    given = {"classes": [9, 10, 2]}
    found = read_label_table(pd.DataFrame(of), file="file", labels="label", **given)
    assert found.labels.tolist() == [1, 2, 0]
    many = pd.DataFrame({1: pd.array([1, 0, None], "Int64"), 2: [True, False, True]})
    several = many.assign(file=list("abc"))
    found = read_label_table(several, file="file", labels=many.columns)
    assert found.class_names == ("1", "2")
    np.testing.assert_array_equal(found.labels, [[1, 1], [0, 0], [NAN, 1]])


@pytest.mark.parametrize("classes", ["red", ["red", "NA", "red"], []])
def test_classes_that_are_none(tmp_path, classes):
    options = {"file": "file", "labels": "color", "classes": classes}
    with pytest.raises(ValueError, match="classes must be a list of one name or more"):
        read_label_table(table(tmp_path, COLORS), **options)


def test_a_label_that_all_have(tmp_path):
    """As CheXpert's "No Finding": 1, or nothing."""
    path = table(tmp_path, CHEXPERT.replace("0.0\n", "\n"))
    with pytest.raises(TableError, match="known to be without Support Devices"):
        read_label_table(path, **OF_CHEXPERT)
    found = read_label_table(path, blank="negative", **OF_CHEXPERT)
    assert found.labels[:, 1].tolist() == [0, 1, 0]


def test_a_table_to_test_on_may_lack_classes(tmp_path):
    path = table(tmp_path, "file,color,fold\na,red,test\n")
    of = {"file": "file", "labels": "color", "classes": ["blue", "red"]}
    assert read_label_table(path, split="fold", **of).labels.tolist() == [1]
    with pytest.raises(TableError, match="no row with blue"):
        read_label_table(path, **of)


@pytest.mark.parametrize(
    ("text", "options", "says"),
    [
        (
            CHEXPERT.replace("-1.0", "2"),
            {},
            "else than 1, 0, -1 or nothing in Edema: line 3 (2)",
        ),
        (CHEXPERT.replace(",1.0\n", ",0\n"), {}, "no row with Support Devices"),
        (CHEXPERT.replace("patient00001", "p1"), {"group": r"(patient\d+)"}, "1 files"),
        (CHEXPERT, {"group": r"(patient00002)?"}, "path of 3 files"),  # empty ones
        (CHEXPERT, {"group": r"(patient\d+)(x)"}, "one pair of parentheses"),
        (CHEXPERT, {"group": "("}, "no regular expression"),
    ],
)
def test_columns_and_patterns_that_are_wrong(tmp_path, text, options, says):
    path = table(tmp_path, text)
    with pytest.raises((ValueError, TableError), match=re.escape(says)):
        read_label_table(path, **OF_CHEXPERT | options)


@pytest.mark.parametrize(
    ("labels", "options", "says"),
    [
        ("columns", {"separator": "|"}, "separator='|' would do nothing"),
        ("columns", {"classes": ["a"]}, "classes=['a'] would do nothing"),
        ("columns", {"uncertain": "yes"}, "uncertain is one of mask, positive, negat"),
        ("columns", {"labels": []}, "labels must be a list of one name or more"),
        ("joined", {"blank": "negative"}, "blank='negative' would do nothing"),
        ("joined", {"separator": None, "none": "x"}, "none='x' would do nothing"),
        ("joined", {"none": "No finding"}, "has no row with 'No finding'"),
        ("joined", {"none": "Mass", "classes": ["Mass"]}, "is one of the classes"),
        ("joined", {"separator": ""}, "separator is what stands between two names"),
        ("columns", {"labels": ["Edema", "Edema"]}, "without repetitions"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path, labels, options, says):
    text, of = (CHESTX, OF_CHESTX) if labels == "joined" else (CHEXPERT, OF_CHEXPERT)
    with pytest.raises((ValueError, TableError), match=re.escape(says)):
        read_label_table(table(tmp_path, text), **of | options)


def test_given_splits_that_share_a_group_are_refused(tmp_path):
    text = CHESTX.replace("Patient ID\n", "Patient ID,fold\n")
    folds = iter(("train", "test", "val", "test"))
    lines = [text.splitlines()[0]]
    lines += [f"{line},{next(folds)}" for line in text.splitlines()[1:]]
    path = table(tmp_path, "\n".join(lines))
    options = {"none": "No Finding", "split": "fold", **OF_CHESTX}
    with pytest.raises(DataUnavailableError, match=r"1 in all: 00001 \(test, train\)"):
        read_label_table(path, group="Patient ID", **options)
    assert read_label_table(path, **options).splits.tolist() == [
        *("train", "test", "val", "test")
    ]


# --- splits by group ---------------------------------------------------------------


def clinic(patients=3000, seed=0):
    """A table of patients with 1 to 9 films, and of findings of 30, 5 and 0.3 %."""
    rng = np.random.default_rng(seed)
    films = rng.integers(1, 10, patients)
    prone = rng.random((patients, 3)) < (0.5, 0.1, 0.006)
    groups = np.repeat(np.arange(patients), films)
    labels = prone[groups] & (rng.random((len(groups), 3)) < 0.6)
    names = [f"p{g}/{n}.png" for n, g in enumerate(groups)]
    return LabelTable(
        np.array(names, object),
        labels.astype(np.float32),
        ("common", "less", "rare"),
        np.array([f"p{g}" for g in groups], object),
    )


SHARES = {"val": 0.1, "test": 0.2}


def test_no_group_is_in_two_splits_and_shares_are_those_of_the_whole():
    found = clinic()
    splits, borders = split_table(found, SHARES, {})
    parts = {n: splits == n for n in ("train", "val", "test")}
    groups = {name: set(found.groups[part]) for name, part in parts.items()}
    assert not groups["train"] & groups["val"]
    assert not groups["train"] & groups["test"]
    assert not groups["val"] & groups["test"]
    whole = found.labels.mean(0)
    for name, share in {"train": 0.7, **SHARES}.items():
        assert abs(parts[name].mean() - share) < 0.01
        of_part = found.labels[parts[name]].mean(0)
        assert np.all(np.abs(of_part - whole) < (0.03, 0.01, 0.002))
        assert of_part[2] > 0
    assert borders.keys() == {"val", "test"}


def test_added_films_move_no_group_of_a_run_and_few_of_others():
    before, after = clinic(3000), clinic(3000)
    more = clinic(300, seed=1)
    after = LabelTable(
        np.concatenate([before.files, [f"new/{f}" for f in more.files]]),
        np.concatenate([before.labels, more.labels]),
        before.class_names,
        np.concatenate([before.groups, [f"new {g}" for g in more.groups]]),
    )
    splits, borders = split_table(before, SHARES, {})
    again, _ = split_table(after, SHARES, borders)
    assert np.array_equal(again[: len(splits)], splits)
    anew, _ = split_table(after, SHARES, {})
    same = anew[: len(splits)] == splits
    assert same.mean() > 0.98
    moved = {(a, b) for a, b in zip(splits, anew[: len(splits)], strict=True)}
    assert not moved & {("val", "test"), ("test", "val")}


@pytest.mark.parametrize("by_patient", [True, False])
def test_a_patient_who_comes_back_with_another_finding_stays(by_patient):
    """Each has one more film, or one label more that is corrected; a new one comes."""
    before = clinic(1000)
    groups = before.groups if by_patient else before.files
    before = before._replace(groups=groups if by_patient else None)
    splits, borders = split_table(before, SHARES, {})
    rng = np.random.default_rng(2)
    again, first = np.unique(groups.astype(str), return_index=True)
    new = (rng.random((len(again), 3)) < (0.3, 0.06, 0.01)).astype(np.float32)
    labels = before.labels.copy()
    if by_patient:
        after = LabelTable(
            np.concatenate([before.files, [f"again/{name}" for name in again]]),
            np.concatenate([labels, new]),
            before.class_names,
            np.concatenate([groups, again]),
        )
    else:
        labels[first] = np.maximum(labels[first], new)
        after = before._replace(labels=labels)
    kept, same = split_table(after, SHARES, borders)
    assert same == borders
    assert np.array_equal(kept[: len(splits)], splits)
    if by_patient:
        of_patient = dict(zip(groups, splits, strict=True))
        assert kept[len(splits) :].tolist() == [of_patient[name] for name in again]
    anew, _ = split_table(after, SHARES, {})
    assert not np.array_equal(anew[: len(splits)], splits)


def test_of_new_patients_of_a_run_a_share_is_held_out():
    """Of 3,000 of a run, and 3,000 others: val and test have a tenth and a fifth."""
    _, borders = split_table(clinic(3000), SHARES, {})
    more = clinic(3000, seed=1)
    more = more._replace(groups=np.array([f"new {g}" for g in more.groups], object))
    splits, _ = split_table(more, SHARES, borders)
    assert 0.05 < np.mean(splits == "val") < 0.11
    assert 0.15 < np.mean(splits == "test") < 0.21
    assert len(borders["val"]["beyond"]) < 17 * 100


def test_a_given_split_is_taken_as_it_is():
    found = clinic(300)
    given = np.where(np.isin(found.groups, ["p1", "p2"]), "test", "train")
    splits, borders = split_table(found._replace(splits=given), SHARES, {})
    assert np.array_equal(splits == "test", given == "test")
    assert borders.keys() == {"val"}
    assert 0.05 < (splits == "val").mean() < 0.15
