"""What was meant by an option, or a name, that there is not."""

import difflib
import re
from collections.abc import Iterable, Sequence

UNKNOWN = re.compile(r"unrecognized arguments: (--[^\s=]+)")
NOT_ACCEPTED = re.compile(r"Option '(\w+)' is not accepted")
NO_CLASS = re.compile(r"Expected a dot import path string: (\w+)$")
NEEDED = re.compile(r"(the following arguments are required: )(.+)")
OF_OTHERS = {"train": "fit", "evaluate": "test"}  # what other libraries call stages
NO_DATA = re.compile(
    r"Expected an instantiatable class, but .*DataModule is abstract"
    r"|arguments are required: (\w+\.)?data$"
)


def meant(name: str, known: Iterable[str]) -> str:
    """Return a question that names the nearest one; "" where none is near.

    >>> meant("--trainer.max_epoch", ["--trainer.max_epochs", "--trainer.max_time"])
    ' Did you mean --trainer.max_epochs?'
    """
    by_lower = {each.lower(): each for each in known}
    near = difflib.get_close_matches(name.lower(), by_lower, 1)
    return f" Did you mean {by_lower[near[0]]}?" if near else ""


def without_stage(given: str, stages: Sequence[str]) -> str:
    """Return what to say of a command line that does not begin with a stage.

    Args:
        given: Its first word.
        stages: Their names.

    >>> without_stage("train", ["fit", "test"]).partition(";")[0]
    "There is no stage 'train'. Did you mean fit? Stages are fit, test"
    """
    hint = meant(given, [*stages, "--help", "--version"])
    if given in OF_OTHERS:
        hint = f" Did you mean {OF_OTHERS[given]}?"
    wrong = f"There is no stage {given!r}."
    if given.startswith("-"):
        wrong = f"A stage comes first, before options such as {given}."
    return (
        f"{wrong}{hint} Stages are {', '.join(stages)}; "
        f"`python -m keras_densenet {stages[0]} --help` lists the options of one."
    )


def explained(
    message: str, stage: str, options: Sequence[str], data: Sequence[str]
) -> str:
    """Return what jsonargparse says of an option, with what was meant or is needed.

    Args:
        message: Of jsonargparse, in one line.
        stage: Of the command line.
        options: Those that there are, such as "--data.batch_size".
        data: Names of data sets.

    >>> explained("Option 'rot' is not accepted", "fit", ["--data.root"], [])
    "Option 'rot' is not accepted. Did you mean --data.root?"
    """
    if NO_DATA.search(message):
        return f"--data is needed: {', '.join(data)}, or the import path of your own."
    unknown, not_accepted = UNKNOWN.search(message), NOT_ACCEPTED.search(message)
    no_class = NO_CLASS.search(message)
    if unknown:
        hint = _of_the_trainer(unknown[1]) or meant(unknown[1], options)
        return f"{message}.{hint or f' `{stage} --help` lists the options.'}"
    if not_accepted:
        return f"{message}.{meant(f'--data.{not_accepted[1]}', options)}"
    if no_class:
        names = data if '"data"' in message else _callbacks()
        return f"{message}.{meant(no_class[1], names)}"
    return NEEDED.sub(lambda it: it[1] + _as_options(it[2], stage, options), message)


def _of_the_trainer(option: str) -> str:
    """Return what Lightning's older flags are here; "" of another option."""
    from keras_densenet.training.lightning_names import OF_THE_TRAINER

    cure = OF_THE_TRAINER.get(option.removeprefix("--trainer."), "")
    if not option.startswith("--trainer.") or cure.startswith("nothing"):
        return ""
    return f" Did you mean {cure}?" if cure else ""


def _callbacks() -> list[str]:
    import keras

    import keras_densenet as kd

    theirs = [name for name in dir(keras.callbacks) if name[0].isupper()]
    return [*kd.callbacks.__all__, *theirs]


def _as_options(names: str, stage: str, options: Sequence[str]) -> str:
    """Write the names of options as they are typed."""
    typed = []
    for name in names.split(", "):
        short = name.removeprefix(f"{stage}.")
        of_data = f"--data.{short}"
        typed.append(of_data if of_data in options else f"--{short}")
    return ", ".join(typed)
