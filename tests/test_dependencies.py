"""pyproject.toml lists what the package and the recipes import, and nothing else."""

import ast
import importlib.util
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import tensorflow as tf

ROOT = Path(__file__).parents[1]
SOURCES = [*(ROOT / "keras_densenet").rglob("*.py"), *(ROOT / "recipes").glob("*.py")]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
# They are imported by what we import, which does not list them: see the last test.
NEEDED_BY_OTHERS = {"tensorboard", "importlib-resources"}


def normalized(name):
    """Return a distribution's name, of which there are several spellings."""
    return re.sub(r"[-_.]+", "-", name).lower()


def listed(requirements):
    """Return the names in some requirements."""
    return {normalized(re.match(r"[\w.-]+", line)[0]) for line in requirements}


DEPENDENCIES = listed(PROJECT["dependencies"])
EXTRAS = {
    name: listed(lines)
    for name, lines in PROJECT["optional-dependencies"].items()
    if name != "dev"
}


def imports(node, at_once=True):
    """Yield each foreign module of a tree, its line, and whether it is loaded at once.

    What a function imports is loaded when it is called, and what stands under
    TYPE_CHECKING never is.
    """
    if isinstance(node, ast.FunctionDef | ast.Lambda):
        at_once = False
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        at_once = False
    names = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and not node.level:
        names = [node.module]
    for name in names:
        top = name.partition(".")[0]
        if top != "keras_densenet" and top not in sys.stdlib_module_names:
            yield top, node.lineno, at_once
    for child in ast.iter_child_nodes(node):
        yield from imports(child, at_once)


def test_imports_are_found():
    source = """
import os, scipy.special
from sklearn import metrics
from . import layers
if TYPE_CHECKING:
    import pandas as pd
class Table:
    def read(self):
        import onnx
        from tensorflow_serving.apis import predict_pb2
"""
    assert list(imports(ast.parse(source))) == [
        ("scipy", 2, True),
        ("sklearn", 3, True),
        ("pandas", 6, False),
        ("onnx", 9, False),
        ("tensorflow_serving", 10, False),
    ]


@pytest.fixture(scope="module")
def imported():
    """Return each import: where it is, the distributions it may be of, its time."""
    owners = packages_distributions()
    return [
        (f"{path.relative_to(ROOT)}:{line}", module, set(map(normalized, of)), at_once)
        for path in SOURCES
        for module, line, at_once in imports(ast.parse(path.read_text()))
        for of in [owners.get(module, [])]
    ]


def test_what_is_imported_is_listed(imported):
    anywhere = DEPENDENCIES.union(*EXTRAS.values())
    problems = [
        f"{where} imports {module}, of {sorted(of) or 'nothing that is installed'}. "
        "List it in pyproject.toml, in `dependencies` unless a function imports it."
        for where, module, of, at_once in imported
        if not of & (DEPENDENCIES if at_once else anywhere)
    ]
    assert not problems, "\n" + "\n".join(problems)


def test_what_is_listed_is_imported(imported):
    used = set().union(*(of for _, _, of, _ in imported))
    unused = DEPENDENCIES.union(*EXTRAS.values()) - used
    assert unused == NEEDED_BY_OTHERS | EXTRAS["docs"]  # which `make docs` runs


def test_what_others_need_is_still_needed(monkeypatch):
    monkeypatch.setitem(sys.modules, "tensorboard.summary.v2", None)
    with pytest.raises(Exception, match="TensorBoard is not installed"):
        tf.summary.scalar("loss", 1.0, step=1)
    builder = importlib.util.find_spec("tensorflow_datasets.core.dataset_builder")
    assert "\n  import importlib_resources\n" in Path(builder.origin).read_text()
