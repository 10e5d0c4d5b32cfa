"""The parameters of a recipe's function are its command line."""

import signal
import subprocess
import sys
from pathlib import Path
from typing import Literal

import pytest

from keras_densenet.command_line.recipe import run_recipe

DEFAULTS = {
    "data": "auto",
    "batch_size": 64,
    "augment": True,
    "memory_efficient": False,
    "resume": False,
}


def said(command):
    """Return what a command line says otherwise than the defaults."""
    heard = {}

    def main(
        data: Literal["auto", "CIFAR10"] = "auto",
        batch_size: int = 64,
        augment: bool = True,
        memory_efficient: bool | Literal["full"] = False,
        resume: bool | Path = False,
    ) -> None:
        """Listen."""
        heard.update(locals())

    run_recipe(main, command.split())
    return {name: heard[name] for name in DEFAULTS if heard[name] != DEFAULTS[name]}


@pytest.mark.parametrize(
    ("command", "meaning"),
    [
        ("", {}),
        ("--batch-size 32", {"batch_size": 32}),
        ("--batch_size=32", {"batch_size": 32}),
        ("--data cifar10", {"data": "CIFAR10"}),
        ("--no-augment", {"augment": False}),
        ("--resume", {"resume": True}),
        ("--resume --no-augment", {"resume": True, "augment": False}),
        ("--resume a.keras", {"resume": Path("a.keras")}),
        ("--memory-efficient", {"memory_efficient": True}),
        ("--memory-efficient TRUE", {"memory_efficient": True}),
        ("--memory-efficient full", {"memory_efficient": "full"}),
        ("--memory-efficient=false", {}),
    ],
)
def test_options_are_parameters(command, meaning):
    assert said(command) == meaning


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("--data svhn", "none of the choices: auto, CIFAR10"),
        ("--resume a.keras b.keras", "One value, or none"),
        ("--batch-sise 32", "--batch-size INT"),
        ("--batch-size many", "--batch-size"),
    ],
)
def test_what_is_no_option_is_an_error(command, words, capsys):
    with pytest.raises(SystemExit) as end:
        said(command)
    assert end.value.code == 2
    assert words in capsys.readouterr().err


ENDS = """
import os, signal, sys
import keras_densenet as kd

def main(resume: bool = False) -> None:
    if not resume:
        {what}

kd.run_recipe(main, resume={resume})
"""


@pytest.mark.parametrize(
    ("what", "resume", "code", "words"),
    [
        ("sys.exit(130)", ("--resume",), 130, "To go on: python {file} --resume\n"),
        ("sys.exit(143)", (), 143, "To go on: python {file}\n"),
        ("sys.exit(130)", None, 130, ""),
        ("os.kill(os.getpid(), signal.SIGINT)", ("--resume",), 130, ""),
    ],
)
def test_how_it_ends_when_it_is_interrupted(what, resume, code, words, tmp_path):
    file = tmp_path / "recipe.py"
    file.write_text(ENDS.format(what=what, resume=resume))
    answer = subprocess.run(
        [sys.executable, file],
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert answer.returncode == code, answer.stderr
    assert answer.stdout == words.format(file=file)
    assert "Traceback" not in answer.stderr
