"""Class names that matplotlib would warn of, misread or let run out of the picture."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
from matplotlib import font_manager

from keras_densenet.analysis import (
    Predictions,
    drawn_names as room,
    plot_class_activation,
    plot_confusion,
)
from keras_densenet.analysis.drawn_names import drawn_names, drawn_titles

NAMES = [
    "tench, Tinca tinca",
    'a "quoted" one',
    "$5 and $6",
    "熊猫",
    "panda 熊猫",
    "two\nlines\tand a tab",
    "x" * 59 + "1",
    "x" * 59 + "2",
    "<b>bold</b> [red]",
    "ünïcödé, ελληνικά",
]


@pytest.fixture
def no_chinese(monkeypatch):
    """Leave the fonts that matplotlib brings itself: none has Chinese letters."""
    own = [
        font
        for font in font_manager.fontManager.ttflist
        if "DejaVu" in font.name or "STIX" in font.name
    ]
    monkeypatch.setattr(room.font_manager.fontManager, "ttflist", own)


@pytest.mark.usefixtures("no_chinese")
def test_names_beside_an_axis():
    assert drawn_names(NAMES).texts == [
        "tench, Tinca tinca",
        'a "quoted" one',
        r"\$5 and \$6",
        "class 3",
        "4: panda",
        "two lines and a tab",
        "6: " + "x" * 20 + "…",
        "7: " + "x" * 20 + "…",
        "<b>bold</b> [red]",
        "ünïcödé, ελληνικά",
    ]
    assert drawn_names(["a" * 24, "b" * 25]).texts == ["a" * 24, "b" * 23 + "…"]


def test_a_font_that_has_the_letters_is_taken(monkeypatch):
    chinese = SimpleNamespace(
        name="Noto Sans CJK", fname="cjk.ttf", style="normal", weight=400
    )
    fonts = [*font_manager.fontManager.ttflist, chinese]
    monkeypatch.setattr(room.font_manager.fontManager, "ttflist", fonts)
    letters = room._letters
    monkeypatch.setattr(
        room, "_letters", lambda f: set("熊猫") if f == "cjk.ttf" else letters(f)
    )
    drawn = drawn_names(["熊猫", "熊" * 13])
    assert drawn.texts == ["熊猫", "熊" * 11 + "…"]  # each takes two columns
    assert drawn.families[-1] == "Noto Sans CJK"
    assert drawn_titles(["熊猫 98 %"], 30).texts == ["熊猫 98 %"]


@pytest.mark.usefixtures("no_chinese")
def test_titles_are_broken_into_lines():
    long = "a name of many words, " * 8
    (text,) = drawn_titles([long], 30).texts
    lines = text.split("\n")
    assert len(lines) == 3
    assert max(map(len, lines)) <= 30
    assert text.endswith("…")
    assert drawn_titles(["熊猫 $9"], 30).texts == [r"?? \$9"]


def test_pictures_are_drawn_without_a_warning(tmp_path):
    labels = np.arange(len(NAMES))
    predictions = Predictions(labels, np.eye(len(NAMES))[::-1], NAMES)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        plot_confusion(predictions).savefig(tmp_path / "confusion.png", dpi=80)
        plot_confusion(predictions).savefig(tmp_path / "confusion.svg")
        plot_class_activation(
            np.full((8, 16, 16, 3), 90),
            np.zeros((8, 16, 16)),
            [f"{name} 98 %, is {name}" for name in NAMES[:8]],
            tmp_path / "maps.png",
        )
