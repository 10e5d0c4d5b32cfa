"""A table of predictions, read again by Python's own csv and by hand."""

import csv
import os

import numpy as np
import pytest

from keras_densenet.analysis import write_label_answers, write_predictions

NAMES = ["tench, Tinca tinca", 'the "big" one', "two\nlines", "$x$", "熊猫", "six"]


def rows(path):
    with open(path, encoding="utf-8", newline="") as file:
        return list(csv.reader(file))


def test_a_table_is_read_again_whatever_the_names(tmp_path):
    path = write_predictions(tmp_path / "new" / "p.csv", np.eye(6, dtype="f4"), NAMES)
    expected = [[str(n), name, "1.000000"] for n, name in enumerate(NAMES)]
    assert rows(path) == [["picture", "class", "probability"], *expected]


def test_files_keep_their_numbers_and_five_classes_are_named(tmp_path):
    probabilities = np.array([[0.1, 0.4, 0.05, 0.25, 0.15, 0.05]])
    files = {3: os.fsdecode(b"caf\xe9, 1.jpg"), 5: "never asked.jpg"}
    path = write_predictions(tmp_path / "p.csv", probabilities, NAMES, files, top_k=5)
    header, row = rows(path)
    assert header[:6] == [
        *("picture", "class", "probability", "file", "class_2", "probability_2")
    ]
    assert header[-1] == "probability_5"
    assert row == [
        *("3", 'the "big" one', "0.400000", "caf\\udce9, 1.jpg"),
        *("$x$", "0.250000", "熊猫", "0.150000"),
        *("tench, Tinca tinca", "0.100000", "two\nlines", "0.050000"),
    ]


def test_no_more_classes_than_there_are(tmp_path):
    path = write_predictions(tmp_path / "p.csv", np.eye(2), ["a", "b"], top_k=5)
    assert rows(path)[0] == [
        *("picture", "class", "probability", "class_2", "probability_2")
    ]
    with pytest.raises(ValueError, match=r"probabilities \(2, 2\), 1 class names"):
        write_predictions(path, np.eye(2), ["a"])
    with pytest.raises(ValueError, match="2 pictures and 1 files"):
        write_predictions(path, np.eye(2), ["a", "b"], {0: "one.jpg"})


def test_labels_have_their_probabilities_and_what_is_decided(tmp_path):
    shares = np.array([[0.25, 0.5], [1.0, 0.0]], "float32")
    files = {3: "a.png", 5: "b, c.png", 9: "never asked.png"}
    given = np.array([[False, True], [True, False]])
    path = write_label_answers(tmp_path / "p.csv", shares, ["熊猫", "x"], files, given)
    assert rows(path) == [
        ["picture", "file", "熊猫", "probability of 熊猫", "x", "probability of x"],
        ["3", "a.png", "0", "0.25", "1", "0.5"],
        ["5", "b, c.png", "1", "1", "0", "0"],
    ]
    path = write_label_answers(tmp_path / "p.csv", shares, ["a", "a"])
    assert rows(path)[:2] == [
        ["picture", "probability of a", "probability of a"],
        ["0", "0.25", "0.5"],
    ]
    with pytest.raises(ValueError, match=r"probabilities \(2, 2\), 1 class names"):
        write_label_answers(path, shares, ["a"])
    with pytest.raises(ValueError, match="2 pictures and 1 files"):
        write_label_answers(path, shares, ["a", "b"], {0: "one.jpg"})
