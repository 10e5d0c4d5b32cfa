"""README and docs/: what they show runs, what they name is there."""

import ast
import importlib
import re
from types import ModuleType

import pytest
from shown_code import LANGUAGES, PAGES, ROOT, blocks, named

import keras_densenet as kd

NOT_RUN = (  # a server, a package that is not needed, and what a terminal showed
    "docker run",
    "curl",
    'echo \'{"signature_name":',
    "TF_SERVING_BIN=",
    "python recipes/ask_server.py",
    'pip install "keras-densenet[',
    "python recipes/cifar10.py --data digits",
)


def test_pages_and_blocks_are_found():
    assert len(PAGES) > 25
    assert sum(len(blocks(page)) for page in PAGES) > 50


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_each_block_says_what_it_is(page):
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{named(page)}:{block.line}"
    fences = re.findall(r"^ *```", page.read_text(), re.MULTILINE)
    assert len(fences) == 2 * len(blocks(page))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_only_commands_that_cannot_run_here_are_not_run(page):
    for block in blocks(page):
        if block.language == "console":
            for command in re.findall(r"^\$ (.+)", block.code, re.MULTILINE):
                assert command.startswith(NOT_RUN), f"{named(page)}:{block.line}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_each_name_of_ours_is_there(page):
    for block in blocks(page):
        if block.language == "python":
            for node in ast.walk(ast.parse(block.code)):
                if isinstance(node, ast.Attribute):
                    assert_there(ast.unparse(node))


def assert_there(dotted):
    """Follow `kd.data.Arrays.from_npz` as far as there are names and no calls."""
    if re.fullmatch(r"kd(\.\w+)+", dotted):
        value = kd
        for name in dotted.split(".")[1:]:
            value = getattr(value, name)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_each_file_that_is_named_is_there(page):
    text = page.read_text()
    for path in re.findall(r"\b(?:recipes|benchmarks|tests|docs)/[\w/]+\.\w+", text):
        assert (ROOT / path).exists(), path


def test_links_of_the_readme_lead_somewhere():
    """Those of docs/ are checked by `mkdocs build --strict`, in `make docs`."""
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        links = re.findall(r"\]\(([^)]+)\)", page.read_text())
        for path, _, anchor in (link.partition("#") for link in links):
            if not path.startswith("http"):
                target = ROOT / path if path else page
                assert target.exists(), path
                if anchor:
                    assert anchor in anchors(target.read_text()), f"{path}#{anchor}"


def anchors(markdown):
    """Return what GitHub and mkdocs make of headings, in lower case and with dashes."""
    titles = re.findall(r"^#+ (.+)$", markdown, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


def test_the_reference_has_every_public_name():
    shown = {}
    for page in (ROOT / "docs").rglob("*.md"):
        for path in re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE):
            module, _, name = path.rpartition(".")
            shown[path] = getattr(importlib.import_module(module), name)
    for room in (ROOT / "keras_densenet").rglob("__init__.py"):
        name = ".".join(room.parent.relative_to(ROOT).parts)
        module = importlib.import_module(name)
        for public in getattr(module, "__all__", []):
            value = getattr(module, public)
            if not isinstance(value, ModuleType):
                found = any(value is other for other in shown.values())
                assert found, f"{name}.{public}"


@pytest.mark.slow
def test_parameters_of_the_networks_are_those_of_the_table():
    rows = re.findall(
        r"^\| `(\w+\(.*\))`.*\| ([\d,]+) \| ([\d,]+) \|$",
        (ROOT / "docs/networks.md").read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 13
    for code, parameters, trained in rows:
        model = eval(f"kd.{code}", {"kd": kd})
        assert f"{model.count_params():,}" == parameters, code
        assert f"{sum(w.numpy().size for w in model.trainable_weights):,}" == trained
