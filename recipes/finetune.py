r"""Fine-tune a DenseNet on a folder of your own pictures: train, test, look, export.

    python recipes/finetune.py --data-dir my_pictures           # weights for ImageNet
    python recipes/finetune.py --data-dir my_pictures --weights densenet121.pth
    python recipes/finetune.py --data-dir my_pictures --network DenseNet201 \
        --frozen dense_block2 --export-dir saved_models/mine
    python recipes/finetune.py --data-dir my_pictures --image-size 32 \
        --network DenseNetBC --depth 40 --weights runs/.../checkpoints/last.keras
    python recipes/finetune.py --data-dir my_pictures --from-scratch   # to compare with
    python recipes/finetune.py --data-dir films --from-scratch --channels 1 \
        --image-size 320 256 --fit pad --no-mirror
    python recipes/finetune.py --data-dir films --weights DenseNet121.pt \
        --mean 127.5 127.5 127.5 --std 127.5 127.5 127.5   # RadImageNet's

The folder has `train/<class>/*.jpg`, with `val/` and `test/` like it, or
`<class>/*.jpg`, of which 10 % are held out to validate on and 15 % to test on.

All weights but the classifier's are loaded: of keras.applications ("imagenet", the
default), of torchvision, timm, MONAI or torchxrayvision, or of a checkpoint of your
own. Pictures are standardized as they were for them, where that is known, and `--mean`
and `--std` take the place of a guess. 20 epochs of SGD with batches of 32; the learning
rate falls from 0.01 to 0 along a cosine, and is 0.8 times as high from each layer to
the one before it. `--frozen backbone` trains the classifier alone, which is fast,
`--frozen dense_block2` what comes after that block. Unequal classes: `--balanced` shows
each as often, `--class-weight` weighs the loss.

Into the run's folder go, with all that a run has,

    confusion.png            what is taken for what
    class_activation.png     where in test pictures it sees what it says (Grad-CAM)
    report.html              curves, confusion, mistakes, costs, in one page
"""

from pathlib import Path
from typing import Any, Literal

import keras_densenet as kd

SHOWN = 12  # pictures
Network = Literal[
    "DenseNet121",
    "DenseNet161",
    "DenseNet169",
    "DenseNet201",
    "DenseNet264",
    "DenseNet232k48",
    "DenseNet264k48",
    "DenseNet",
    "DenseNetBC",
]


def main(
    data_dir: Path = Path("my_pictures"),
    network: Network = "DenseNet121",
    depth: int | None = None,
    growth_rate: int | None = None,
    memory_efficient: bool | Literal["full"] = False,
    weights: str = "imagenet",
    from_scratch: bool = False,
    frozen: str | None = None,
    image_size: int | tuple[int, int] = 224,
    channels: Literal[1, 3, 4] = 3,
    fit: Literal["auto", "crop", "pad", "squash"] = "auto",
    mirror: bool = True,
    mean: tuple[float, ...] | None = None,
    std: tuple[float, ...] | None = None,
    validation_fraction: float = 0.1,
    test_fraction: float = 0.15,
    on_error: Literal["raise", "skip"] = "raise",
    balanced: bool = False,
    class_weight: bool = False,
    batch_size: int = 32,
    max_epochs: int = 20,
    learning_rate: float | None = None,
    precision: str = "32-true",
    strategy: str = "auto",
    seed: int = 0,
    resume: bool | Path = False,
    fast_dev_run: bool | int = False,
    output_dir: Path = Path(),
    export_dir: Path | None = None,
) -> None:
    """Train, test, look at the answers, report and, if asked to, export.

    Args:
        data_dir: The folder of pictures.
        network: DenseNet and DenseNetBC are for small pictures.
        depth: L, of DenseNet and DenseNetBC.
        growth_rate: k, of DenseNet and DenseNetBC.
        memory_efficient: Store less and compute it again, with the same result; "full"
            stores least.
        weights: "imagenet" downloads those of keras.applications; or a file of theirs,
            of torchvision, of timm, or a checkpoint of this package.
        from_scratch: Begin with random weights, to compare with.
        frozen: The last layer that stays as it is, such as dense_block2; or backbone.
        image_size: Height and width of what the network sees, in pixels: one number for
            both, or the two.
        channels: 1 for gray pictures, 3 for RGB, 4 for RGBA.
        fit: How a whole picture becomes that size: its center cut out (crop), resized
            and filled up with black (pad), or resized to other proportions (squash); by
            default crop for a square and squash for others.
        mirror: Mirror half of the training pictures; not where left and right differ.
        mean: Mean of each channel, in 0..255; by default what the weights are used to.
        std: Standard deviation of each channel, likewise.
        validation_fraction: Share of the pictures held out to validate on, if there is
            no val/.
        test_fraction: Share of the pictures held out to test on, if there is no test/.
        on_error: Whether a broken picture is an error or left out, and counted.
        balanced: Show each class as often as the others.
        class_weight: Let each class weigh as much as the others in the loss.
        batch_size: Pictures in a step, of all replicas together.
        max_epochs: How often all pictures are shown.
        learning_rate: Of the classifier, at the start; by default 0.01, and 0.1 from
            scratch.
        precision: 32-true, bf16-mixed, 16-mixed or 64-true.
        strategy: auto, none, mirrored or multi_worker_mirrored.
        seed: Of the weights, the order of the pictures and their augmentation.
        resume: Go on with the latest run, or from this checkpoint.
        fast_dev_run: Run one batch of everything, or so many, to see that it works.
        output_dir: Where `runs` is written to.
        export_dir: Where to write a SavedModel for TensorFlow Serving to.
    """
    if (mean is None) != (std is None):
        raise ValueError(
            "--mean and --std are of the same pictures: give both, or neither. "
            f"Received: mean={mean}, std={std}"
        )
    kd.seed_everything(seed)
    known = None
    if not from_scratch:
        known = kd.weights.preprocessing(weights, channels=channels)
    data = kd.data.ImageFolder(
        data_dir,
        batch_size,
        image_size,  # to train on a random crop of 8 to 100 % of the area; mirrored
        channels=channels,
        fit=None if fit == "auto" else fit,
        mirror=mirror,
        validation_fraction=validation_fraction,
        test_fraction=test_fraction,
        balanced=balanced,
        on_error=on_error,
        mean=mean or (known.mean if known else None),  # None for ImageNet's
        std=std or (known.std if known else None),
    )
    data.prepare_data()
    if data.num_classes < 2:
        raise ValueError(f"{data.root} has one class: a classifier needs two or more.")
    data.refuse_empty("test")  # which comes after the training

    small = {"depth": depth, "growth_rate": growth_rate}
    options: dict[str, Any] = {k: v for k, v in small.items() if v is not None}
    if learning_rate is None:
        learning_rate = 0.1 if from_scratch else 0.01
    module = kd.FineTuning(
        getattr(kd, network),
        weights=None if from_scratch else weights,
        frozen=frozen,
        layer_decay=1.0 if from_scratch else 0.8,
        learning_rate=learning_rate,
        lr_schedule="cosine",
        momentum=0.9,  # Nesterov's
        weight_decay=1e-4,
        class_weight="balanced" if class_weight else None,
        memory_efficient=memory_efficient,
        **options,
    )
    trainer = kd.Trainer(
        max_epochs=max_epochs,
        precision=precision,
        strategy=strategy,
        fast_dev_run=fast_dev_run,
        default_root_dir=output_dir,
    )
    trainer.fit(
        module,
        datamodule=data,
        ckpt_path="last" if resume is True else resume or None,
    )
    metrics = trainer.test(module, datamodule=data)
    look_at_answers(trainer, module, data)
    trainer.report(module, datamodule=data)
    if export_dir:
        trainer.export(module, export_dir)
    print(f"Test error: {100 * (1 - metrics['accuracy']):.2f} %")


def look_at_answers(
    trainer: "kd.Trainer", module: "kd.ImageClassifier", data: "kd.data.ImageFolder"
) -> None:
    """Print how well each class is recognized, and draw what is confused and why."""
    import numpy as np
    from rich.markup import escape
    from rich.table import Table

    data.setup("test")
    images, labels = (
        np.concatenate(part) for part in zip(*data.test_dataset(), strict=True)
    )
    network: Any = module.model
    probabilities = network.predict(images, verbose=0)
    predictions = kd.analysis.Predictions(labels, probabilities, data.class_names)
    table = Table("class", "pictures", "precision", "recall", title="Test pictures")
    for score in predictions.class_scores():
        shares = (f"{score.precision:.3f}", f"{score.recall:.3f}")
        table.add_row(escape(score.name), str(score.pictures), *shares)
    trainer.console.print(table)

    folder = Path(trainer.log_dir or trainer.default_root_dir)
    folder.mkdir(parents=True, exist_ok=True)  # a fast_dev_run has made none
    confusion = kd.analysis.plot_confusion(predictions)
    confusion.savefig(folder / "confusion.png", dpi=150)
    shown = np.unique(np.linspace(0, len(images) - 1, SHOWN).astype(int))
    kd.analysis.plot_class_activation(
        images[shown] * np.array(data.std, "float32") + np.array(data.mean, "float32"),
        kd.analysis.class_activation(network, images[shown]),
        [title(predictions, number) for number in shown],
        folder / "class_activation.png",
    )
    print(f"Confusion and class activation: {folder}")


def title(predictions: "kd.analysis.Predictions", number: int) -> str:
    """Return what a picture was taken for, how surely and, where wrong, what it is."""
    answer, label = predictions.answers[number], predictions.labels[number]
    sure = predictions.probabilities[number, answer]
    wrong = "" if answer == label else f", is {predictions.class_names[label]}"
    return f"{predictions.class_names[answer]} {sure:.0%}{wrong}"


if __name__ == "__main__":
    kd.run_recipe(main)
