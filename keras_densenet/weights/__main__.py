"""Say what a file of weights is.

python -m keras_densenet.weights describe chexnet.pth.tar
"""

import sys

from jsonargparse import auto_cli

from keras_densenet.weights.describing import describe


def describe_file(file: str) -> None:
    """Print what a file of weights is, and the line of Python that loads it.

    Args:
        file: Of PyTorch, of safetensors or of Keras.
    """
    describe(file)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    try:
        auto_cli(
            {"describe": describe_file},
            args=arguments,
            prog="python -m keras_densenet.weights",
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
