"""DenseNet on CIFAR-10, as in the paper (section 4.2; Table 2, columns C10+ and C10).

    python recipes/cifar10.py                     # DenseNet-BC, L = 100, k = 12
    python recipes/cifar10.py --no-augment        # C10: no augmentation, dropout 0.2
    python recipes/cifar10.py --depth 22 --max-epochs 3    # minutes on a laptop
    python recipes/cifar10.py --resume            # go on with the latest run

300 epochs of SGD with batches of 64, Nesterov momentum 0.9, weight decay 1e-4 on all
weights as Torch has it, learning rate 0.1 divided by 10 after 50 % and 75 % of the
epochs. Training pictures are mirrored and shifted by up to 4 pixels, padded in the mean
color (the "+"). The last 5,000 training pictures are held out to look at, and the model
of the last epoch is tested. The errors below are of the authors' final runs, which
train on all 50,000 pictures: `--validation-size 0`.

A run writes its logs, checkpoints and report to `runs/cifar10-<network>/version_<N>`,
and `--resume` goes on with the latest one there, exactly as it would have gone on.

    options                                 parameters   error, %    memory, GB
                                                         C10+  C10   False True "full"
    --depth 100                                  0.77 M  4.51  5.92    2.4  0.6  0.3
    --depth 250 --growth-rate 24                 15.3 M  3.62  5.19   23.1  2.9  1.5
    --depth 190 --growth-rate 40                 25.6 M  3.46  -      23.7  3.7  2.0
    --depth 40 --growth-rate 36                  1.54 M  4.58  -       1.9  0.7  0.4
    --depth 40 --growth-rate 48                  2.73 M  3.99  -       2.5  1.0  0.6
    --depth 40 --growth-rate 60                  4.26 M  4.01  -       3.1  1.2  0.7
    --network DenseNet --depth 40                1.02 M  5.24  7.00    1.3  0.3  0.3
    --network DenseNet --depth 100               6.98 M  4.10  5.77    7.7  0.6  0.6
    --network DenseNet --depth 100 --growth-rate 24
                                                 27.2 M  3.74  5.83   15.0  1.2  1.2

Errors are the paper's, those of the wide networks (L = 40 with bottlenecks) from the
authors' README. Memory is what a batch of 64 takes in float32 by `--memory-efficient`,
without weights, computed by `keras_densenet.analysis.profile`.

Other schedules:

    --cosine                              to 0 along a cosine instead of in steps
    --batch-size 256 --scale-lr           four times the batch, the learning rate 0.4
    --depth 40 --cosine --max-epochs 20   an hour on 2 CPU cores: see README

Without a network and without a prepared CIFAR-10 it trains on the hand-written digits
inside scikit-learn instead, and says so; `--data cifar10` stops instead.
"""

from pathlib import Path
from typing import Literal

import keras_densenet as kd


def main(
    network: Literal["DenseNet", "DenseNetBC"] = "DenseNetBC",
    depth: int = 100,
    growth_rate: int = 12,
    memory_efficient: bool | Literal["full"] = False,
    data: Literal["auto", "cifar10", "digits"] = "auto",
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    validation_size: int = 5_000,
    augment: bool = True,
    batch_size: int = 64,
    max_epochs: int | None = None,
    max_time: str | None = None,
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
    """Train, test the last epoch's network, report and, if asked to, export it.

    Args:
        network: The paper's basic network, or with bottlenecks and compression.
        depth: L, the number of layers.
        growth_rate: k, the maps that each layer adds.
        memory_efficient: Store less and compute it again, with the same result; "full"
            stores least.
        data: "auto" is CIFAR-10 or, where it cannot be had, the digits.
        data_dir: Where TensorFlow Datasets has CIFAR-10, or is to have it.
        manual_dir: A folder with its archive, for a machine without a network.
        validation_size: Training pictures held out.
        augment: Whether training pictures are mirrored and shifted; if not, dropout is
            0.2.
        batch_size: Pictures in a step, of all replicas together.
        max_epochs: By default 300, and 10 on the digits.
        max_time: Time to train, such as 00:12:00:00 for twelve hours.
        cosine: Let the learning rate fall to 0 along a cosine, not in steps.
        scale_lr: Let the learning rate grow with the batch: 0.1 is for 64 pictures.
        precision: 32-true, bf16-mixed, 16-mixed or 64-true.
        strategy: auto, none, mirrored or multi_worker_mirrored.
        seed: Of the weights, the order of the pictures and their augmentation.
        resume: Go on with the latest run, or from this checkpoint.
        fast_dev_run: Run one batch of everything, or so many, to see that it works.
        output_dir: Where `runs` is written to.
        export_dir: Where to write a SavedModel for TensorFlow Serving to.
    """
    kd.seed_everything(seed)
    pictures: kd.data.ArrayDataModule = (
        kd.data.Digits(batch_size, augment=augment)
        if data == "digits"
        else kd.data.CIFAR10(
            batch_size,
            data_dir,
            manual_dir=manual_dir,
            validation_size=validation_size,
            augment=augment,
        )
    )
    if data == "auto":
        pictures = kd.data.prepared_or_digits(pictures)
    on_digits = isinstance(pictures, kd.data.Digits)
    if max_epochs is None:
        max_epochs = 10 if on_digits else 300

    module = kd.ImageClassifier(
        getattr(kd, network),
        depth=depth,
        growth_rate=growth_rate,
        dropout_rate=0.0 if augment else 0.2,
        memory_efficient=memory_efficient,
        learning_rate=0.1 * batch_size / 64 if scale_lr else 0.1,
        lr_schedule="cosine" if cosine else "step",
        milestones=(0.5, 0.75),  # of all epochs: after 150 and 225 of 300
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
    metrics = trainer.test(module, datamodule=pictures)  # the last epoch, not the best
    if export_dir:
        trainer.export(module, export_dir)
    trainer.report(module, datamodule=pictures)
    name = "the digits, NOT CIFAR-10" if on_digits else pictures.title
    print(f"Test error on {name}: {100 * (1 - metrics['accuracy']):.2f} %")


if __name__ == "__main__":
    kd.run_recipe(main)
