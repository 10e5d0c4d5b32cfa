"""CONTRIBUTING.md lists each private name of other libraries that the code uses."""

import ast
import functools
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "keras_densenet").rglob("*.py"), *(ROOT / "recipes").glob("*.py")]
PRIVATE_MODULES = re.compile(r"(keras|keras_tuner)\.src\b|tensorflow\.(python|core)\b")
BY_NAME = ("getattr", "hasattr", "setattr", "delattr")
OF_NAMED_TUPLES = ("_asdict", "_fields", "_make", "_replace")  # documented by Python
HEADING = "## Private names of other libraries"


def is_private(name):
    return name.startswith("_") and not name.startswith("__") and len(name) > 1


def is_of_self(node):
    return isinstance(node, ast.Attribute) and getattr(node.value, "id", "") == "self"


def accesses(tree):
    """Yield each private attribute that is read, written or deleted, and its line."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            yield node.attr, node.lineno
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") in BY_NAME:
            name = getattr(node.args[1], "value", "")
            if isinstance(name, str) and is_private(name):
                yield name, node.lineno


def private_imports(tree):
    """Yield each import of a private name, or from a private module."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            paths = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            paths = [alias.name for alias in node.names]
        else:
            continue
        for path in paths:
            is_ours = path.startswith("keras_densenet.")
            has_private = any(map(is_private, path.split(".")))
            if not is_ours and (has_private or PRIVATE_MODULES.match(path)):
                yield path, node.lineno


def definitions(tree):
    """Yield the names that a file defines: functions, classes, attributes of self."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif is_of_self(node) and isinstance(node.ctx, ast.Store):
            yield node.attr


def of_class(node):
    """Yield the private names that a class defines, or uses on `self`."""
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and is_private(part.name):
            yield part.name, part.lineno
    for part in ast.walk(node):
        if is_of_self(part) and is_private(part.attr):
            yield part.attr, part.lineno


def foreign_bases(node, module):
    """List the classes of other libraries that a class inherits from."""
    bases = [eval(ast.unparse(base), vars(module)) for base in node.bases]
    ancestors = [one for base in bases for one in getattr(base, "__mro__", ())]
    ours = ("keras_densenet", "builtins")
    return [one for one in ancestors if one.__module__.split(".")[0] not in ours]


@functools.cache
def source_of(base):
    """Return the source of a class."""
    try:
        return inspect.getsource(base)
    except OSError:  # it is written in C
        return ""


def knows(base, name):
    """Say whether a class has an attribute, or sets it on its instances."""
    return name in vars(base) or re.search(rf"self\.{name}\b", source_of(base))


def overrides(tree, module):
    """Yield the private names in our classes that their foreign bases have, too."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            bases = foreign_bases(node, module)
            for name, line in of_class(node):
                if any(knows(base, name) for base in bases):
                    yield name, line


def used_names():
    """Return each private name of other libraries, with the first place of its use."""
    trees = {path.relative_to(ROOT): ast.parse(path.read_text()) for path in SOURCES}
    ours = {name for tree in trees.values() for name in definitions(tree)}
    used = {}
    for path, tree in trees.items():
        found = [(n, at) for n, at in accesses(tree) if n not in ours]
        found += private_imports(tree)
        if path.parts[0] == "keras_densenet" and path.stem != "__main__":
            name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
            found += overrides(tree, importlib.import_module(name))
        for name, line in found:
            if name not in OF_NAMED_TUPLES:
                used.setdefault(name, f"{path}:{line}")
    return used


def listed_names():
    """Return each name in the table of CONTRIBUTING.md, with its line."""
    lines = (ROOT / "CONTRIBUTING.md").read_text().splitlines()
    names = {}
    for number, line in enumerate(lines, start=1):
        if number > lines.index(HEADING) and line.startswith("| `"):
            for name in re.findall(r"`([^`]+)`", line.split("|")[1]):
                names[name] = f"CONTRIBUTING.md:{number}"
    return names


@pytest.mark.slow
def test_each_private_name_that_is_used_is_listed():
    used, listed = used_names(), listed_names()
    problems = [
        f"{where} uses `{name}`, private to another library. Do without it, or "
        f'list it in CONTRIBUTING.md under "{HEADING.lstrip("# ")}".'
        for name, where in used.items()
        if name not in listed
    ]
    problems += [
        f"{where} lists `{name}`, which the code no longer uses. Delete it there."
        for name, where in listed.items()
        if name not in used
    ]
    assert not problems, "\n" + "\n".join(problems)
