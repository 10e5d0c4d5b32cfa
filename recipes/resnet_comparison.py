"""DenseNet-BC beside a ResNet of as many parameters: Figure 4 of the paper, in small.

    python recipes/resnet_comparison.py --data digits      # 2 minutes on 2 CPU cores
    python recipes/resnet_comparison.py --max-epochs 10    # CIFAR-10

The ResNet is that of He et al. 2016 (pre-activation, arXiv 1603.05027), for pictures of
32x32 pixels, trained by the same trainer with the same optimizer and schedule, on the
same pictures. Into `comparison/` go

    comparison.csv      parameters, multiply-adds and test error of each network
    comparison.png      test error against parameters and against multiply-adds
    gradient_flow.png   gradient norms by depth of the two largest, and through which
                        readers a DenseNet's maps get their gradient
    dropped.png         test error where one layer at a time is left out

The paper's networks were trained for 300 epochs; a short schedule shows a trend.
Without a network and without a prepared CIFAR-10 it trains on the hand-written digits
inside scikit-learn instead, and says so.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple

import keras_densenet as kd

PAIRS = ((22, 8), (40, 14))  # depths of DenseNet-BC (k = 12) and ResNet: 75 K, 175 K
TESTED = 1000  # pictures, where a layer is left out


def resnet(depth: int = 14, classes: int = 10, input_shape: tuple = (32, 32, 3)) -> Any:
    """Build a pre-activation ResNet for small images.

    Args:
        depth: 6 n + 2, for n units in each of three stages of 16, 32 and 64 maps.
        classes: Number of classes.
        input_shape: `(H, W, channels)`.
    """
    import keras

    units, left = divmod(depth - 2, 6)
    if left or units < 1:
        raise ValueError(f"A ResNet's depth must be 6 n + 2. Received: depth={depth}")
    pictures = keras.Input(input_shape, name="images")
    x = _convolution(16, 3)(pictures)
    for stage, maps in enumerate((16, 32, 64)):
        for unit in range(units):
            x = _unit(x, maps, stride=2 if stage and not unit else 1)
    x = keras.layers.GlobalAveragePooling2D()(_normalized(x))
    scores = keras.layers.Dense(classes, "softmax", name="classifier")(x)
    return keras.Model(pictures, scores, name=f"resnet_{depth}")


def _unit(x: Any, maps: int, stride: int) -> Any:
    """Add BN-ReLU-3x3-BN-ReLU-3x3 to what it reads, or to its projection."""
    y = _normalized(x)
    if x.shape[-1] != maps:
        x = _convolution(maps, 1, stride)(y)
    y = _convolution(maps, 3, stride)(y)
    return x + _convolution(maps, 3)(_normalized(y))


def _normalized(x: Any) -> Any:
    from keras.layers import BatchNormalization, ReLU

    return ReLU()(BatchNormalization(epsilon=1e-5, momentum=0.9)(x))


def _convolution(maps: int, size: int, stride: int = 1) -> Any:
    from keras.layers import Conv2D

    init = {"kernel_initializer": "he_normal", "use_bias": False}
    return Conv2D(maps, size, stride, "same", **init)


class Trained(NamedTuple):
    """A network, and what it costs and is worth."""

    name: str
    model: Any
    parameters: int
    multiply_adds: int
    error: float  # of the test pictures, in percent

    @classmethod
    def of(cls, name: str, model: Any, metrics: Mapping[str, float]) -> "Trained":
        """Return a network with its costs.

        Args:
            name: In tables and drawings.
            model: The trained `keras.Model`.
            metrics: Of the test pictures, with "accuracy" in 0..1.
        """
        costs = kd.analysis.profile(model)
        assert costs.multiply_adds is not None  # all layers are known
        error = 100 * (1 - metrics["accuracy"])
        return cls(name, model, costs.parameters, costs.multiply_adds, error)


def main(
    data: Literal["auto", "cifar10", "digits"] = "auto",
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    batch_size: int = 64,
    max_epochs: int = 10,
    precision: str = "32-true",
    strategy: str = "auto",
    seed: int = 0,
    fast_dev_run: bool | int = False,
    output_dir: Path = Path(),
) -> None:
    """Train each network, compare, and draw.

    Args:
        data: "auto" is CIFAR-10 or, where it cannot be had, the digits.
        data_dir: Where TensorFlow Datasets has CIFAR-10, or is to have it.
        manual_dir: A folder with its archive, for a machine without a network.
        batch_size: Pictures in a step, of all replicas together.
        max_epochs: Of each network's training.
        precision: 32-true, bf16-mixed, 16-mixed or 64-true.
        strategy: auto, none, mirrored or multi_worker_mirrored.
        seed: Of each network's weights and of the pictures.
        fast_dev_run: Run one batch of everything, or so many, to see that it works.
        output_dir: Where `runs` and `comparison` are written to.
    """
    kd.seed_everything(seed)
    pictures: kd.data.ArrayDataModule = (
        kd.data.Digits(batch_size)
        if data == "digits"
        else kd.data.CIFAR10(
            batch_size,
            data_dir,
            manual_dir=manual_dir,
            validation_size=5_000,
            augment=True,  # mirrored, and shifted by up to 4 pixels
        )
    )
    if data == "auto":
        pictures = kd.data.prepared_or_digits(pictures)

    trained = []
    for densenet_depth, resnet_depth in PAIRS:
        for name, build, depth in (
            ("DenseNet-BC", kd.DenseNetBC, densenet_depth),
            ("ResNet", resnet, resnet_depth),
        ):
            kd.seed_everything(seed)
            module = kd.ImageClassifier(
                build,
                depth=depth,
                learning_rate=0.1,
                lr_schedule="cosine",
                momentum=0.9,  # Nesterov's
                weight_decay=1e-4,
            )
            trainer = kd.Trainer(
                max_epochs=max_epochs,
                precision=precision,
                strategy=strategy,
                fast_dev_run=fast_dev_run,
                default_root_dir=output_dir,
            )
            trainer.fit(module, datamodule=pictures)
            metrics = trainer.test(module, datamodule=pictures)
            trained.append(Trained.of(f"{name}-{depth}", module.model, metrics))
    compare(trained, pictures, output_dir / "comparison")


def compare(
    trained: list[Trained], data: "kd.data.ArrayDataModule", folder: Path
) -> None:
    """Write and draw what was found."""
    folder.mkdir(parents=True, exist_ok=True)
    write_table(trained, folder)
    plot_comparison(trained, data.title, folder / "comparison.png")
    data.setup("fit")
    batch = next(iter(data.train_dataset()))
    flows = {t.name: kd.analysis.gradient_flow(t.model, batch) for t in trained[-2:]}
    kd.analysis.plot_gradient_flow(flows, folder / "gradient_flow.png")
    plot_dropped(trained[-2:], data, folder / "dropped.png")
    print(f"All of it is in {folder}")


def write_table(trained: list[Trained], folder: Path) -> None:
    """Write and print what each costs and is worth."""
    lines = ["network,parameters,multiply_adds,test_error"]
    lines += [
        f"{t.name},{t.parameters},{t.multiply_adds},{t.error:.2f}" for t in trained
    ]
    (folder / "comparison.csv").write_text("\n".join(lines) + "\n")
    for t in trained:
        print(
            f"{t.name:16}{t.parameters:>10,} parameters {t.multiply_adds / 1e6:>8.1f} "
            f"M multiply-adds   test error {t.error:.2f} %"
        )


def plot_comparison(trained: list[Trained], data: str, path: Path) -> None:
    """Draw test error against parameters and multiply-adds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, cost in zip(
        figure.subplots(1, 2, sharey=True), ("parameters", "multiply_adds"), strict=True
    ):
        for kind, marker in (("DenseNet-BC", "o"), ("ResNet", "s")):
            of_kind = [t for t in trained if t.name.startswith(kind)]
            x, y = [getattr(t, cost) for t in of_kind], [t.error for t in of_kind]
            axis.semilogx(x, y, marker=marker, label=f"{kind}, by its depth")
            for t in of_kind:
                at, depth = (getattr(t, cost), t.error), t.name.rpartition("-")[2]
                offset = {"xytext": (8, 4), "textcoords": "offset points"}
                axis.annotate(depth, at, **offset)
        axis.set_xlabel(cost.replace("multiply_adds", "multiply-adds a picture"))
        axis.margins(x=0.35, y=0.15)
        axis.legend()
    figure.axes[0].set_ylabel(f"test error on {data}, %")
    figure.savefig(path, dpi=150)


def plot_dropped(trained: list[Trained], data: Any, path: Path) -> None:
    """Draw the test error of each network where one layer at a time is left out."""
    import numpy as np
    from matplotlib.figure import Figure

    data.setup("test")
    batches = data.test_dataset().unbatch().take(TESTED)
    pictures, labels = map(np.stack, zip(*batches.as_numpy_iterator(), strict=True))

    def error(model: Any) -> float:
        found = model.predict(pictures, batch_size=250, verbose=0).argmax(axis=1)
        return 100 * float(np.mean(found != labels))

    figure = Figure(figsize=(10, 4), layout="constrained")
    axis = figure.subplots()
    for t in trained:
        errors = []
        for kernel in droppable(t.model):
            with without(kernel):
                errors.append(error(t.model))
        (line,) = axis.plot(range(1, len(errors) + 1), errors, ".-", label=t.name)
        axis.axhline(error(t.model), color=line.get_color(), linestyle=":")
    axis.locator_params(axis="x", integer=True)
    axis.set_xlabel("number of the dense layer, or of the residual unit, left out")
    axis.set_ylabel("test error, % (dotted: with all)")
    axis.legend()
    figure.savefig(path, dpi=150)


def droppable(model: Any) -> Iterator[Any]:
    """Yield the kernels whose zeros leave out a dense layer, or a residual unit."""
    from keras.layers import Add, Conv2D

    from keras_densenet.layers import DenseBlock

    for layer in model.layers:
        if isinstance(layer, DenseBlock):
            yield from (dense.conv.kernel for dense in layer.dense_layers)
    for operation in model.operations:
        if isinstance(operation, Add) or type(operation).__name__ == "Add":
            _, branch = operation._inbound_nodes[0].input_tensors
            convolution = branch._keras_history.operation
            assert isinstance(convolution, Conv2D)
            yield convolution.kernel


@contextmanager
def without(kernel: Any) -> Iterator[None]:
    """Let a kernel be 0 meanwhile: its maps are 0, a residual unit gives its input."""
    import numpy as np

    before = kernel.numpy()
    kernel.assign(np.zeros_like(before))
    try:
        yield
    finally:
        kernel.assign(before)


if __name__ == "__main__":
    kd.run_recipe(main, resume=None)
