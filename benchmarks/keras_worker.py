"""A process that trains one Keras variant of DenseNet-BC; see `side_by_side.py`.

python benchmarks/keras_worker.py full --batch-size 64
"""

import time

STARTED = time.perf_counter()  # before what takes seconds to import

import functools  # noqa: E402
import os  # noqa: E402
from typing import Any  # noqa: E402

import live_tensors  # noqa: E402
import worker  # noqa: E402

if __name__ == "__main__":
    in_float32 = ["plain", "true", "full", "recompute_grad", "keras"]
    in_float32 += ["keras_default", "applications"]
    arguments = worker.parse([*in_float32, *(f"{v}_bf16" for v in in_float32)])
    variant = arguments.variant.removesuffix("_bf16")
    if variant != "keras_default":  # which measures TensorFlow's defaults
        os.environ["TF_ENABLE_ONEDNN_OPTS"] = "1"
    peak_mb = worker.resident_set_mb
    if arguments.peak_of == "tensors":
        peak_mb = functools.partial(live_tensors.peak_mb, live_tensors.begin_log())
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402

OURS = {"plain": False, "true": True, "full": "full", "recompute_grad": "full"}


def build(
    variant: str, depth: int, growth_rate: int, shape: tuple[int, ...], network: str
) -> keras.Model:
    """Build the variant's network: the paper's for ImageNet of that depth, or BC."""
    if variant in OURS:
        import keras_densenet as kd

        if variant == "recompute_grad":  # instead of one gradient for a whole block
            _use_recompute_grad()
        options = {"input_shape": shape, "memory_efficient": OURS[variant]}
        if network == "fc_densenet":
            return kd.FCDenseNet(depth, growth_rate, **options, classes=10)
        for name in (f"DenseNet{depth}k{growth_rate}", f"DenseNet{depth}"):
            if hasattr(kd, name):
                return getattr(kd, name)(**options, classes=10)
        return kd.DenseNetBC(depth, growth_rate, **options)
    import keras_peers

    peer = "applications" if variant == "applications" else "functional"
    return getattr(keras_peers, peer)(depth, growth_rate, shape)


def _use_recompute_grad() -> None:
    from keras_densenet.layers import dense_block, recomputation

    def block(layers: list, x: Any, mode: str, axis: int, *_: Any) -> Any:
        return recomputation.layer_by_layer(layers, x, mode is True, axis)

    dense_block.recomputed_block = block


def main() -> None:
    """Train on one batch of noise, as many steps as the input asks for."""
    imported = time.perf_counter()
    keras.utils.set_random_seed(0)
    if arguments.variant != variant:
        keras.config.set_dtype_policy("mixed_bfloat16")
    model = build(
        variant,
        arguments.depth,
        arguments.growth_rate,
        worker.shape(arguments),
        arguments.network,
    )
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True),
        "sparse_categorical_crossentropy",
        jit_compile=arguments.xla,
    )
    model.optimizer.build(model.trainable_variables)  # so that Keras traces once
    rng = np.random.default_rng(0)
    size = (arguments.batch_size, *worker.shape(arguments))
    images = rng.normal(size=size).astype("float32")
    labels = rng.integers(0, 10, (arguments.batch_size, *model.output_shape[1:-1]))
    worker.serve(
        lambda: model.train_on_batch(images, labels),
        STARTED,
        imported,
        worker.versions(tensorflow=tf.__version__, keras=keras.__version__),
        peak_mb,
    )


if __name__ == "__main__":
    main()
