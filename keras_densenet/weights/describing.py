"""What a file of weights is, in words, and the line of Python that loads it."""

import json
import os
from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.text import Text

from keras_densenet.weights.architecture import (
    Architecture,
    architecture_of,
    variant_of,
)
from keras_densenet.weights.loading import counted
from keras_densenet.weights.names import CLASSIFIER
from keras_densenet.weights.preprocessing import Answer, answer_of
from keras_densenet.weights.sources import XRAYS, Network, Source, network_of, title

SIDES = {"imagenet": 224, "small": 32}  # of pictures in pixels, as the paper has them


def describe(source: Source) -> None:
    """Print what a file of weights is, and the line of Python that loads it.

    Printed are the network and its variant, the channels of its pictures, the outputs
    of its classifier, whose names the weights have and where in the file they are, what
    there is beside weights, and what is known of the preprocessing, and from where.

    Args:
        source: A file, a model or a state dict, as `load` takes them.

    Raises:
        WeightsError: The file cannot be read, or has no DenseNet.
        FileNotFoundError: There is no such file.
    """
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(title(source), "bold"))
    for name, fact in described(source).items():
        console.print(Text.assemble((f"  {name:<15}", "dim"), fact))


def described(source: Source) -> dict[str, str]:
    """Return the facts that `describe` prints, by name."""
    network = network_of(source)
    architecture = architecture_of(network.arrays)
    answer = answer_of(source, network)
    facts = {
        "network": _in_words(architecture),
        "input channels": str(architecture.channels),
        "outputs": _outputs(architecture, network),
        "activation": _activation(architecture, network),
        "weights of": network.library,
        "found at": network.found_at,
        "left out": counted(network.left_out),
        "a guess": network.guess,
        "preprocessing": _preprocessing_in_words(answer),
        "load it with": _line(source, architecture, network),
    }
    return {name: fact for name, fact in facts.items() if fact}


# --- in words --------------------------------------------------------------------


def _in_words(architecture: Architecture) -> str:
    variant, arguments = variant_of(architecture)
    depth = arguments.get("depth")
    name = f"{variant}-{depth}-{architecture.growth_rate}" if depth else variant
    bottlenecks = (
        f"bottlenecks of {architecture.bn_size} k maps"
        if architecture.bn_size
        else "no bottlenecks"
    )
    return (
        f"{name}: blocks of {', '.join(map(str, architecture.blocks))} dense layers, "
        f"k = {architecture.growth_rate}, {bottlenecks}, compression "
        f"{architecture.compression}, {architecture.stem} stem of "
        f"{architecture.init_features} maps"
    )


def _outputs(architecture: Architecture, network: Network) -> str:
    if architecture.outputs is not None:
        return str(architecture.outputs)
    head = [name for name in network.arrays if name.startswith(CLASSIFIER)]
    return f"a head of other layers: {counted(head)}" if head else "no classifier"


def _activation(architecture: Architecture, network: Network) -> str:
    if architecture.outputs is None:
        return ""
    if network.library == XRAYS:
        return "sigmoid"
    return (
        'not known: softmax by default; give classifier_activation="sigmoid" if each '
        "output is a finding by itself"
    )


def _preprocessing_in_words(answer: Answer) -> str:
    if answer.numbers is None:
        return answer.reason
    mean, std = (
        ", ".join(f"{value:.6g}" for value in values) for values in answer.numbers
    )
    return f"mean {mean}; std {std}, of pixels in 0..255 ({answer.reason})"


def _line(source: Source, architecture: Architecture, network: Network) -> str:
    """Return a call that makes the network with its weights."""
    variant, arguments = variant_of(architecture)
    side = SIDES.get(architecture.stem, SIDES["imagenet"])
    is_file = isinstance(source, str | os.PathLike) and not isinstance(source, Mapping)
    call = arguments | {"weights": str(source) if is_file else ...}
    call |= (
        {"include_top": False}
        if architecture.outputs is None
        else {"classes": architecture.outputs}
    )
    call["input_shape"] = (*(side,) * architecture.rank, architecture.channels)
    if network.library == XRAYS:
        call["classifier_activation"] = "sigmoid"
    given = ", ".join(
        f"{name}={'source' if value is ... else _in_python(value)}"
        for name, value in call.items()
    )
    return f"keras_densenet.{variant}({given})"


def _in_python(value: Any) -> str:
    return json.dumps(value) if isinstance(value, str) else repr(value)
