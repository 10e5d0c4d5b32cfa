"""How a recipe is started: the parameters of its function are its command line.

Options are written with hyphens or underscores. The type of a parameter says how:

    batch_size: int = 64                          --batch-size 128
    augment: bool = True                          --no-augment
    cosine: bool = False                          --cosine
    data: Literal["auto", "digits"] = "auto"      --data digits, in any case
    resume: bool | Path = False                   --resume, or --resume PATH

Needs neither Keras nor TensorFlow: `--help` is quick.
"""

import contextlib
import functools
import inspect
import io
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, Literal, Union, get_args

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
)

from keras_densenet.command_line.user_errors import one_line_errors

TRUTH = {"true": True, "false": False}
registry = ConstructorRegistry()


def run_recipe(
    main: Callable[..., Any],
    arguments: Sequence[str] | None = None,
    *,
    resume: Sequence[str] | None = ("--resume",),
) -> None:
    """Run a recipe's function with what the command line says.

    An error of the user's is printed in one line, and after Ctrl-C or SIGTERM the
    command that goes on.

    Args:
        main: The recipe's function. Its docstring says what its parameters are for, the
            docstring of its module is shown above them by `--help`.
        arguments: The command line; None for that of the process.
        resume: What is added to the command line to go on; None where it cannot go on.

    Raises:
        SystemExit: After help and after an error.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    # tyro keeps the line breaks of a function's Args, and not those of a description.
    main.__doc__ = re.sub(r"\n {8}", " ", inspect.getdoc(main) or "")
    if {"-h", "--help"} & set(arguments):
        print(inspect.getdoc(inspect.getmodule(main)), end="\n\n")
    with one_line_errors(resume):
        main(**_read(main, arguments))


def _read(main: Callable[..., Any], arguments: Sequence[str]) -> dict[str, Any]:
    """Return the recipe's parameters, by name, as the command line says."""

    @functools.wraps(main)
    def given(**parameters: Any) -> dict[str, Any]:
        return parameters

    printed = io.StringIO()
    try:
        with contextlib.redirect_stderr(printed):
            return tyro.cli(
                given,
                description="",
                args=arguments,
                registry=registry,
                config=(tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone),
            )
    except SystemExit as end:
        if printed.getvalue():
            print(_in_one_line(printed.getvalue()), file=sys.stderr)
        raise SystemExit(end.code) from None


def _in_one_line(box: str) -> str:
    r"""Return what tyro says in a box as one line.

    >>> _in_one_line("╭─ Parsing error ─╮\n│ No value   │\n│  for --depth │\n╰──╯")
    'error: No value for --depth'
    """
    lines = [line for line in box.splitlines() if not re.match(" *[╭╰]", line)]
    return "error: " + " ".join(re.sub("[│─]", " ", " ".join(lines)).split())


@registry.primitive_rule
def _names(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read one of some names, in any case."""
    if info.type_origin is not Literal:
        return None
    names = {str(name).lower(): name for name in get_args(info.type)}
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{{{','.join(map(str, names.values()))}}}",
        instance_from_str=lambda given: _chosen(given[0], names),
        is_instance=lambda value: value in names.values(),
        str_from_instance=lambda value: [str(value)],
    )


@registry.primitive_rule
def _flag_or_value(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec | None:
    """Read a flag that may have a value: `bool | int` is --name, or --name 3."""
    kinds = get_args(info.type)
    if bool not in kinds:
        return None
    others: Any = Union[tuple(kind for kind in kinds if kind is not bool)]  # noqa: UP007
    value = registry.get_primitive_spec(PrimitiveTypeInfo.make(others, info.markers))
    assert isinstance(value, PrimitiveConstructorSpec)
    return PrimitiveConstructorSpec(
        nargs="*",  # of tyro's; more than one is refused
        metavar=f"[{value.metavar}]",
        instance_from_str=lambda given: _truth_or(value, given),
        is_instance=lambda it: isinstance(it, bool) or value.is_instance(it),
        str_from_instance=lambda it: [str(it)],
    )


def _truth_or(value: PrimitiveConstructorSpec, given: list[str]) -> Any:
    """Return True where no value is given, else the value.

    Raises:
        ValueError: There are several values.
    """
    if len(given) > 1:
        raise ValueError(f"One value, or none, is allowed, not {' '.join(given)}.")
    if not given:
        return True
    word = given[0].lower()
    return TRUTH[word] if word in TRUTH else value.instance_from_str(given)


def _chosen(given: str, names: dict[str, Any]) -> Any:
    """Return what is named.

    Raises:
        ValueError: There is nothing of that name.
    """
    if given.lower() not in names:
        raise ValueError(
            f"{given!r} is none of the choices: {', '.join(map(str, names.values()))}."
        )
    return names[given.lower()]
