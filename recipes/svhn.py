"""DenseNet on SVHN, as in the paper (section 4.2; Table 2, column SVHN).

    python recipes/svhn.py                        # DenseNet-BC, L = 100, k = 12
    python recipes/svhn.py --resume               # go on with the latest run

40 epochs on training and additional pictures, 598,388 of them, of SGD with batches of
64, Nesterov momentum 0.9, weight decay 1e-4, dropout 0.2, learning rate 0.1 divided by
10 after epochs 20 and 30. Pixels are divided by 255, nothing is augmented. 6,000
pictures are held out, and the network of the epoch that is best on them is tested: not
the last one, as on CIFAR.

    options                                 parameters   error, %   memory, GB
                                                                    False True "full"
    --depth 100                                  0.77 M  1.76         2.4  0.6  0.3
    --depth 250 --growth-rate 24                 15.3 M  1.74        23.1  2.9  1.5
    --network DenseNet --depth 40                1.02 M  1.79         1.3  0.3  0.3
    --network DenseNet --depth 100               6.98 M  1.67         7.7  0.6  0.6
    --network DenseNet --depth 100 --growth-rate 24
                                                 27.2 M  1.59        15.0  1.2  1.2

Errors are the paper's. Memory is what a batch of 64 takes in float32 by
`--memory-efficient`, without weights, computed by `keras_densenet.analysis.profile`;
the pictures themselves take 2 GB, and for a moment, while they are read, 6 GB.

    --cosine                              to 0 along a cosine instead of in steps
    --batch-size 256 --scale-lr           four times the batch, the learning rate 0.4

Without a network and without a prepared SVHN it trains on the hand-written digits
inside scikit-learn instead, and says so; `--data svhn` stops instead.
"""

from pathlib import Path
from typing import Literal

import keras_densenet as kd


def main(
    network: Literal["DenseNet", "DenseNetBC"] = "DenseNetBC",
    depth: int = 100,
    growth_rate: int = 12,
    memory_efficient: bool | Literal["full"] = False,
    data: Literal["auto", "svhn", "digits"] = "auto",
    data_dir: Path | None = None,
    manual_dir: Path | None = None,
    validation_size: int = 6_000,
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
    """Train, test the network that validates best, report and, if asked to, export.

    Args:
        network: The paper's basic network, or with bottlenecks and compression.
        depth: L, the number of layers.
        growth_rate: k, the maps that each layer adds.
        memory_efficient: Store less and compute it again, with the same result; "full"
            stores least.
        data: "auto" is SVHN or, where it cannot be had, the digits.
        data_dir: Where TensorFlow Datasets has SVHN, or is to have it.
        manual_dir: A folder with its three archives, for a machine without a network.
        validation_size: Pictures held out.
        batch_size: Pictures in a step, of all replicas together.
        max_epochs: By default 40, and 10 on the digits.
        max_time: Time to train, such as 00:12:00:00 for twelve hours.
        cosine: Let the learning rate fall to 0 along a cosine, not in steps.
        scale_lr: Let the learning rate grow with the batch: 0.1 is for 64 pictures.
        precision: 32-true, bf16-mixed, 16-mixed or 64-true.
        strategy: auto, none, mirrored or multi_worker_mirrored.
        seed: Of the weights and of the order of the pictures.
        resume: Go on with the latest run, or from this checkpoint.
        fast_dev_run: Run one batch of everything, or so many, to see that it works.
        output_dir: Where `runs` is written to.
        export_dir: Where to write a SavedModel for TensorFlow Serving to.
    """
    kd.seed_everything(seed)
    pictures: kd.data.ArrayDataModule = (
        kd.data.Digits(batch_size, augment=True)
        if data == "digits"
        else kd.data.SVHN(
            batch_size,
            data_dir,
            manual_dir=manual_dir,
            validation_size=validation_size,
            augment=False,  # section 4.1: pixels are divided by 255, that is all
        )
    )
    if data == "auto":
        pictures = kd.data.prepared_or_digits(pictures)
    on_digits = isinstance(pictures, kd.data.Digits)
    if max_epochs is None:
        max_epochs = 10 if on_digits else 40

    module = kd.ImageClassifier(
        getattr(kd, network),
        depth=depth,
        growth_rate=growth_rate,
        dropout_rate=0.2,
        memory_efficient=memory_efficient,
        learning_rate=0.1 * batch_size / 64 if scale_lr else 0.1,
        lr_schedule="cosine" if cosine else "step",
        milestones=(0.5, 0.75),  # of all epochs: after 20 and 30 of 40
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
    checkpoint = trainer.checkpoint_callback  # None in a fast_dev_run
    best = "best" if checkpoint and checkpoint.best_model_path else None
    if best is None:
        print("No epoch was validated: the last network is tested, not the best.")
    metrics = trainer.test(module, datamodule=pictures, ckpt_path=best)
    if export_dir:
        trainer.export(module, export_dir)
    trainer.report(module, datamodule=pictures, ckpt_path=best)
    name = "the digits, NOT SVHN" if on_digits else pictures.title
    print(f"Test error on {name}: {100 * (1 - metrics['accuracy']):.2f} %")


if __name__ == "__main__":
    kd.run_recipe(main)
