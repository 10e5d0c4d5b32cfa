"""What docs/troubleshooting.md quotes is what the code says, and no kind is missing."""

import ast
import builtins
import re
from collections.abc import Iterator
from functools import cache

import pytest
from shown_code import ROOT, blocks

PAGE = (ROOT / "docs/troubleshooting.md").read_text()
PACKAGE = ROOT / "keras_densenet"
HOLE = "\0"  # in a text of the code: where a name or a number is put in
LEAST = 15  # letters of a quote that are not "...": fewer would be found anywhere
TELLING = 20  # letters in a row that tell a module's text from another module's

# Modules that raise errors, and that the page does not quote.
NOT_QUOTED = {
    "data/digit_mosaics.py": "one option of built-in data: a share, and below 1",
    "data/digit_scenes.py": "one option of built-in data, with two values, both named",
}


# --- the page --------------------------------------------------------------------


def quotes() -> list[str]:
    """Return the texts of this package that the page quotes.

    They are blocks of ```text without a title, which would name another library, and
    what stands in backticks in the first column of tables that are headed "text".
    """
    found = [
        block.code
        for block in blocks(ROOT / "docs/troubleshooting.md")
        if block.language == "text" and not block.title
    ]
    is_ours = False
    for line in PAGE.splitlines():
        if not line.startswith("|"):
            is_ours = False
        elif line.startswith("| text |"):
            is_ours = True
        elif is_ours:
            found += codes(re.split(r"(?<!\\)\|", line)[1])
    return found


def codes(cell: str) -> list[str]:
    """Return what stands in one or two backticks.

    >>> codes("`a`, and `` b `c` ``")
    ['a', 'b `c`']
    """
    pairs = re.findall(r"``\s(.+?)\s``|`([^`]+)`", cell)
    return [(double or single).replace(r"\|", "|") for double, single in pairs]


def parts(quote: str) -> list[str]:
    """Return what a quote has between its "..." ."""
    return [part for part in map(in_a_line, quote.split("...")) if part]


def in_a_line(text: str) -> str:
    return " ".join(text.split())


# --- the code --------------------------------------------------------------------


@cache
def modules() -> dict[str, ast.Module]:
    """Return the modules of the package, by their path in it."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {
        path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_text())
        for path in paths
    }


@cache
def texts(module: str) -> list[str]:
    """Return the texts in a module's code, without docstrings; see `text_of`."""
    tree = modules()[module]
    docstrings = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    nodes = [node for node in ast.walk(tree) if id(node) not in docstrings]
    return [in_a_line(text) for text in map(text_of, nodes) if text]


def text_of(node: ast.AST | None) -> str | None:
    """Return the text that an expression makes, with a hole for what is put in.

    >>> text_of(ast.parse("f'{a} is ' 'no b.' + c", mode="eval").body)
    '\\x00 is no b.\\x00'
    """
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(value) or HOLE for value in node.values)
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        left, right = text_of(node.left), text_of(node.right)
        if left or right:
            return (left or HOLE) + (right or HOLE)
    return None


@cache
def modules_that_say(quote: str) -> list[str]:
    """Return the modules with a text that has all parts of a quote in their order."""
    pattern = re.compile(".*?".join(map(re.escape, parts(quote))))
    return [
        name for name in modules() if any(pattern.search(text) for text in texts(name))
    ]


def own_errors() -> set[str]:
    """Return the public classes of the package that are exceptions."""
    bases = {
        node.name: {ast.unparse(base).rpartition(".")[2] for base in node.bases}
        for tree in modules().values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    builtin = {
        name
        for name, thing in vars(builtins).items()
        if isinstance(thing, type) and issubclass(thing, BaseException)
    }
    found: set[str] = set()
    while more := {n for n in bases if bases[n] & (builtin | found)} - found:
        found |= more
    return {name for name in found if not name.startswith("_")}


def raised_by(module: str) -> Iterator[str]:
    """Yield the names of the classes that a module raises."""
    for node in ast.walk(modules()[module]):
        if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call):
            yield ast.unparse(node.exc.func).rpartition(".")[2]


# --- the tests -------------------------------------------------------------------


def test_each_text_on_the_page_is_in_the_code():
    found = quotes()
    assert len(found) > 200
    short = [quote for quote in found if sum(map(len, parts(quote))) < LEAST]
    assert not short, "Quote more of these, or they are found anywhere"
    gone = [quote for quote in found if not modules_that_say(quote)]
    assert not gone, "No text of the code has these parts in this order"


def test_each_class_of_errors_is_on_the_page():
    classes = own_errors()
    assert "WeightsError" in classes
    missing = [name for name in classes if not re.search(rf"`[\w.]*{name}`", PAGE)]
    assert not missing


def test_each_module_that_raises_errors_is_quoted():
    errors = own_errors() | {"ValueError", "TypeError"}
    raising = {name for name in modules() if errors & set(raised_by(name))}
    quoted = {
        name
        for quote in quotes()
        if max(map(len, parts(quote))) >= TELLING
        for name in modules_that_say(quote)
    }
    missing = sorted(raising - quoted - NOT_QUOTED.keys())
    assert not missing, "\n".join(missing)
    needless = NOT_QUOTED.keys() - (raising - quoted)
    assert not needless, "Take these out of NOT_QUOTED"


@pytest.mark.parametrize(
    "quote",
    [
        "pooling must be 'avg', 'max', or nothing for the maps themselves.",
        "for the maps themselves. ... pooling must be 'avg'",
        "pooling must be 'avg', ... Choose one of them.",
    ],
)
def test_a_text_that_the_code_does_not_have_is_told(quote):
    """Another word, another order, and parts of two texts."""
    as_it_is = "pooling must be 'avg', ... for the maps themselves."
    assert modules_that_say(as_it_is) == ["models.py"]
    assert modules_that_say("Choose one of them. Received: stem=") == ["models.py"]
    assert modules_that_say(quote) == []
