"""Say what a file of weights is.

python -m keras_densenet.weights describe chexnet.pth.tar
"""

from keras_densenet.subcommands import run_subcommands
from keras_densenet.weights.describing import describe


def describe_file(file: str) -> None:
    """Print what a file of weights is, and the line of Python that loads it.

    Args:
        file: Of PyTorch, of safetensors or of Keras.
    """
    describe(file)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    run_subcommands({"describe": describe_file}, "weights", arguments)


if __name__ == "__main__":
    main()
