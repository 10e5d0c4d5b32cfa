"""Write the files whose inference is measured: ours, and keras.applications'.

python benchmarks/inference_files.py 121 FOLDER
"""

import argparse
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras
import keras_peers
import numpy as np

import keras_densenet as kd

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NETWORKS = {
    "121": (
        lambda: kd.DenseNet121(weights=None),
        lambda: keras.applications.DenseNet121(weights=None),
    ),
    "bc_100_12": (
        lambda: kd.DenseNetBC(100, 12),
        lambda: keras_peers.applications(100, 12, (32, 32, 3)),
    ),
}


def main() -> None:
    """Write the files of one network."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network", choices=NETWORKS)
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    make, make_peer = NETWORKS[given.network]
    model, how = _with_statistics(make()), {"mean": MEAN, "std": STD}
    kd.export.savedmodel(model, given.folder / "ours", **how)
    sixteen_bits = {"precision": "bfloat16", **how}
    kd.export.savedmodel(model, given.folder / "ours_bfloat16", **sixteen_bits)
    kd.export.onnx(model, given.folder / "ours.onnx", **how)
    kd.export.litert(model, given.folder / "ours.tflite", **how)
    peer = _with_statistics(make_peer())
    peer.export(given.folder / "applications" / "1", verbose=False)


def _with_statistics(model: keras.Model) -> keras.Model:
    """Draw the batch norms' statistics, which would be 0 and 1 without training."""
    rng = np.random.default_rng(0)
    draw = {
        "moving_mean": lambda shape: rng.normal(0, 0.1, shape),
        "moving_variance": lambda shape: rng.uniform(0.5, 1.5, shape),
    }
    model.set_weights(
        [
            draw[variable.name](weight.shape) if variable.name in draw else weight
            for variable, weight in zip(model.weights, model.get_weights(), strict=True)
        ]
    )
    return model


if __name__ == "__main__":
    main()
