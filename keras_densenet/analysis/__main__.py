"""Look inside a network that was trained.

python -m keras_densenet.analysis feature_reuse runs/cifar10-.../version_0 reuse.png
"""

import sys

from jsonargparse import auto_cli

from keras_densenet.analysis.feature_reuse import (
    feature_reuse,
    observe_feature_reuse,
    plot_feature_reuse,
)


def draw_feature_reuse(network: str, picture: str) -> None:
    """Draw which layers use which features, and say what the paper observes of it.

    Args:
        network: A .keras file, or the folder of a run.
        picture: Where to save the picture, a .png or .svg file.
    """
    matrices = feature_reuse(network)
    plot_feature_reuse(matrices, picture)
    print("\n".join(observe_feature_reuse(matrices)))
    print(f"Drawn in {picture}")


def main(arguments: list[str] | None = None) -> None:
    """Run the command line."""
    try:
        auto_cli(
            {"feature_reuse": draw_feature_reuse},
            args=arguments,
            prog="python -m keras_densenet.analysis",
        )
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
