"""Look inside a network that was trained.

python -m keras_densenet.analysis feature_reuse runs/cifar10-.../version_0 reuse.png
"""

from keras_densenet.analysis.feature_reuse import (
    feature_reuse,
    observe_feature_reuse,
    plot_feature_reuse,
)
from keras_densenet.subcommands import run_subcommands


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
    run_subcommands({"feature_reuse": draw_feature_reuse}, "analysis", arguments)


if __name__ == "__main__":
    main()
