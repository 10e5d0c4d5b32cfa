"""What README and the pages of docs/ show: fenced blocks of code and of commands."""

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
LANGUAGES = {
    "python": "run in the order of the page, all of it in one process",
    "bash": "commands that are run, in the order of the page",
    "console": "what a terminal showed; its commands need a server, Docker or an hour",
    "text": "what is printed, or code of another library",
}


class Block(NamedTuple):
    language: str
    title: str  # what stands behind the language
    line: int  # of its first line, 1 being the page's first
    code: str


def blocks(page: Path) -> list[Block]:
    """Return the fenced blocks of a page, in their order."""
    found: list[Block] = []
    text = page.read_text(encoding="utf-8")
    for match in re.finditer(
        r"^```(\w*) *([^\n]*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE
    ):
        line = text.count("\n", 0, match.start()) + 2
        found.append(Block(match[1], match[2], line, match[3]))
    return found


def named(page: Path) -> str:
    """Return a page's path in the repository."""
    return str(page.relative_to(ROOT))
