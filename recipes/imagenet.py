"""DenseNet on ImageNet, as in the paper (section 4.2; Table 3).

    python recipes/imagenet.py --manual-dir archives       # DenseNet-121, through TFDS
    python recipes/imagenet.py --folder imagenet           # train/<class>/*.JPEG, val/
    python recipes/imagenet.py --memory-limited --network DenseNet161
    python recipes/imagenet.py --resume                    # go on with the latest run

90 epochs of SGD with batches of 256, Nesterov momentum 0.9, weight decay 1e-4, learning
rate 0.1 divided by 10 after epochs 30 and 60; no dropout. Training pictures: a random
crop of 8 to 100 % of the area resized to 224, color jitter 0.4, PCA lighting 0.1,
mirrored. The network of the last epoch is tested on the 50,000 validation pictures:
short side 256, the center of 224; and the mean of ten crops.

    --network    parameters  top-1 error, %  top-5 error, %       memory, GB
                             1 crop  10      1 crop  10       False  True  "full"
    DenseNet121       8.0 M  25.02   23.61   7.71    6.66      37.8  12.9   8.5
    DenseNet169      14.1 M  23.80   22.08   6.85    5.92      44.7  13.4   8.7
    DenseNet201      20.0 M  22.58   21.46   6.34    5.54      56.4  13.9   8.8
    DenseNet264      33.3 M  22.15   20.80   6.12    5.29      75.5  14.7   9.0
    DenseNet161      28.7 M  22.2    -       -       -         68.7  20.0  12.8

Errors are the paper's; that of DenseNet-161 (k = 48) is from the authors' README, by
the memory-limited variant: batches of 128, 100 epochs, the learning rate divided by 10
again after epoch 90. Memory is what a batch of 256 takes in float32 by
`--memory-efficient`, without weights, computed by `keras_densenet.analysis.profile`;
with --memory-limited it is half of that.

The technical report (1707.06990) trains 100 epochs with a cosine:

    --network DenseNet264k48 --cosine --max-epochs 100    72.7 M, 20.26 % top-1 error
    --batch-size 1024 --scale-lr                          the learning rate is 0.4

ImageNet's license forbids that it is downloaded unasked; without it this stops and says
what to get. The digits, for a look at it: `--data digits`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import keras_densenet as kd

if TYPE_CHECKING:
    import keras

Network = Literal[
    "DenseNet121",
    "DenseNet161",
    "DenseNet169",
    "DenseNet201",
    "DenseNet264",
    "DenseNet232k48",
    "DenseNet264k48",
]


def main(
    network: Network = "DenseNet121",
    memory_efficient: bool | Literal["full"] = False,
    data: Literal["imagenet", "digits"] = "imagenet",
    folder: Path | None = None,
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    image_size: int = 224,
    batch_size: int | None = None,
    max_epochs: int | None = None,
    max_time: str | None = None,
    memory_limited: bool = False,
    cosine: bool = False,
    scale_lr: bool = False,
    precision: str = "32-true",
    strategy: str = "auto",
    seed: int = 0,
    resume: bool | Path = False,
    fast_dev_run: bool | int = False,
    output_dir: Path = Path(),
    export_dir: Path | None = None,
) -> None:
    """Train, test by one crop and by ten, report and, if asked to, export.

    Args:
        network: One of the table above, or of the technical report.
        memory_efficient: Store less and compute it again, with the same result; "full"
            stores least.
        data: ImageNet, or the digits for a look at the training.
        folder: A folder with train/<class>/*.JPEG and val/<class>/*.JPEG, instead of
            TensorFlow Datasets.
        data_dir: Where TensorFlow Datasets has ImageNet, or is to have it.
        manual_dir: A folder with ILSVRC2012_img_train.tar and ILSVRC2012_img_val.tar.
        image_size: Height and width of what the network sees, in pixels.
        batch_size: By default 256 of all replicas together, and 128 memory-limited.
        max_epochs: By default 90, and 100 memory-limited.
        max_time: Time to train, such as 02:00:00:00 for two days.
        memory_limited: Train as the authors trained DenseNet-161: batches of 128, 100
            epochs, the learning rate divided by 10 after epochs 30, 60 and 90.
        cosine: Let the learning rate fall to 0 along a cosine, not in steps.
        scale_lr: Let the learning rate grow with the batch: 0.1 is for 256 pictures.
        precision: 32-true, bf16-mixed, 16-mixed or 64-true.
        strategy: auto, none, mirrored or multi_worker_mirrored.
        seed: Of the weights, the order of the pictures and their augmentation.
        resume: Go on with the latest run, or from this checkpoint.
        fast_dev_run: Run one batch of everything, or so many, to see that it works.
        output_dir: Where `runs` is written to.
        export_dir: Where to write a SavedModel for TensorFlow Serving to.
    """
    kd.seed_everything(seed)
    if batch_size is None:
        batch_size = 128 if memory_limited else 256
    if max_epochs is None:
        max_epochs = 100 if memory_limited else 90
    pictures = (
        kd.data.Digits(batch_size)
        if data == "digits"
        else kd.data.ImageNet(
            batch_size,
            data_dir,
            folder=folder,
            manual_dir=manual_dir,
            image_size=image_size,  # a random crop of 8 to 100 % of the area; mirrored
            jitter=0.4,
            lighting=0.1,
        )
    )
    module = kd.ImageClassifier(
        getattr(kd, network),
        memory_efficient=memory_efficient,
        learning_rate=0.1 * batch_size / 256 if scale_lr else 0.1,
        lr_schedule="cosine" if cosine else "step",
        milestones=(0.3, 0.6, 0.9) if memory_limited else (30 / 90, 60 / 90),
        momentum=0.9,  # Nesterov's
        weight_decay=1e-4,
    )
    trainer = kd.Trainer(
        max_epochs=max_epochs,
        max_time=max_time,
        precision=precision,
        strategy=strategy,
        fast_dev_run=fast_dev_run,
        default_root_dir=output_dir,
    )
    trainer.fit(
        module,
        datamodule=pictures,
        ckpt_path="last" if resume is True else resume or None,
    )
    print_errors("one crop", trainer.test(module, datamodule=pictures))
    if isinstance(pictures, kd.data.PictureDataModule):
        ten_crops = mean_of_views(trainer, module)
        metrics = trainer.test(ten_crops, datamodule=kd.data.TenCrops(pictures))
        print_errors("ten crops", metrics)
    if export_dir:
        trainer.export(module, export_dir, datamodule=pictures)
    trainer.report(module, datamodule=pictures)


def mean_of_views(trainer: "kd.Trainer", module: "kd.ImageClassifier") -> "keras.Model":
    """Make a model of `(N, 10, H, W, 3)` with the answer of the mean logits.

    As fb.resnet.torch has it. A logarithm of a probability is a logit but for what all
    classes have in common, which softmax takes away.
    """
    import keras

    network: Any = module.model
    with trainer.scope():
        views = keras.Input((10, *network.input_shape[1:]))
        logits = [keras.ops.log(network(views[:, view])) for view in range(10)]
        mean = keras.ops.mean(keras.ops.stack(logits), axis=0)  # (N, classes)
        model = keras.Model(views, keras.ops.softmax(mean), name="ten_crops")
        model.compile(loss=module.configure_loss(), metrics=module.configure_metrics())
    return model


def print_errors(how: str, metrics: dict[str, float]) -> None:
    """Print top-1 and, where there is one, top-5 error."""
    errors = [
        f"{title} error {100 * (1 - metrics[name]):.2f} %"
        for title, name in (("top-1", "accuracy"), ("top-5", "top_5_accuracy"))
        if name in metrics
    ]
    print(f"By {how}: {', '.join(errors)}")


if __name__ == "__main__":
    kd.run_recipe(main)
