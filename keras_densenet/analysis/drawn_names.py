"""Names of classes as matplotlib can draw them: any script, any length, any sign."""

import textwrap
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import NamedTuple

from matplotlib import font_manager, rcParams

MOST_COLUMNS = 24  # of letters beside an axis; a Chinese letter takes two
LINES = 3  # of a title
WIDE = ("W", "F")  # East Asian widths
NO_LETTERS = "Last Resort"  # has a box for every letter


class Drawn(NamedTuple):
    """Texts that can be drawn.

    Attributes:
        texts: One for each name.
        families: Font families that have their letters: of each letter the first that
            has it is taken. The `fontfamily` of a `matplotlib.text.Text`.
    """

    texts: list[str]
    families: list[str]


def drawn_names(names: Sequence[str], most: int = MOST_COLUMNS) -> Drawn:
    """Return the names of classes as they are written beside an axis.

    A name that is too long is shortened. One with letters that no font on this machine
    has, or that is as another one when it is shortened, has its number before it.

    Args:
        names: In the order of the class numbers.
        most: Columns that a name may take.
    """
    lines = [" ".join(_plain(name).split()) for name in names]
    families, missing = _families(lines)
    kept = ["".join(c for c in line if c not in missing).strip() for line in lines]
    short = [_shortened(line, most) for line in kept]
    texts = []
    for number, (line, text) in enumerate(zip(lines, short, strict=True)):
        if missing.intersection(line) or not line or short.count(text) > 1:
            rest = _shortened(kept[number], most - len(f"{number}: "))
            text = f"{number}: {rest}" if rest else f"class {number}"
        texts.append(_without_formulas(text))
    return Drawn(texts, families)


def drawn_titles(titles: Sequence[str], width: int) -> Drawn:
    """Return titles in lines of at most `width` letters, of which there are three.

    A letter that no font on this machine has becomes a question mark.
    """
    families, missing = _families(_plain(title) for title in titles)
    wrapped = []
    for title in titles:
        text = "".join("?" if c in missing else c for c in _plain(title))
        lines = textwrap.wrap(text, width, max_lines=LINES, placeholder=" …")
        wrapped.append(_without_formulas("\n".join(lines)))
    return Drawn(wrapped, families)


def _plain(name: str) -> str:
    """Return a name with spaces for line ends and signs that control terminals."""
    return "".join(" " if unicodedata.category(c)[0] == "C" else c for c in str(name))


def _shortened(name: str, most: int) -> str:
    """Cut a name's end off where it takes more columns than `most`."""
    if sum(map(_columns, name)) <= most:
        return name
    kept, room = "", most - 1
    for letter in name:
        room -= _columns(letter)
        if room < 0:
            break
        kept += letter
    return kept.rstrip() + "…"


def _columns(letter: str) -> int:
    return 2 if unicodedata.east_asian_width(letter) in WIDE else 1


def _without_formulas(text: str) -> str:
    return text.replace("$", r"\$")  # a dollar sign would begin a formula


def _families(texts: Iterable[str]) -> tuple[list[str], set[str]]:
    """Return families of fonts that have the letters of texts, and what none has."""
    families = list(rcParams["font.family"])
    usual = font_manager.findfont(font_manager.FontProperties(family=families))
    missing = {letter for text in texts for letter in text} - _letters(usual)
    missing.discard(" ")
    for font in _other_fonts() if missing else ():
        found = missing & _letters(font.fname)
        if found:
            families.append(font.name)
            missing -= found
        if not missing:
            break
    return families, missing


def _other_fonts() -> list[font_manager.FontEntry]:
    """Return the fonts of this machine: sans-serif and upright ones first."""
    fonts = [
        font for font in font_manager.fontManager.ttflist if NO_LETTERS not in font.name
    ]
    return sorted(
        fonts,
        key=lambda font: (
            "sans" not in font.name.lower(),
            font.style != "normal",
            str(font.weight) not in ("400", "normal", "regular"),
            font.name,
        ),
    )


@cache
def _letters(path: str) -> frozenset[str]:
    """Return what a font has; nothing of a file that is no font."""
    try:
        return frozenset(map(chr, font_manager.get_font(path).get_charmap()))
    except (OSError, RuntimeError):  # FreeType's
        return frozenset()
