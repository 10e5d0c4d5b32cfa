"""DenseNet-BC on CIFAR-10, as in the paper (Table 2, column C10+).

    python recipes/cifar10.py                     # L = 100, k = 12: 4.51 % error
    python recipes/cifar10.py --depth 250 --growth-rate 24         # 3.62 % error
    python recipes/cifar10.py --depth 190 --growth-rate 40         # 3.46 % error
    python recipes/cifar10.py --no-augment        # C10, with dropout 0.2: 5.92 %
    python recipes/cifar10.py --depth 22 --max-epochs 3    # minutes on a laptop
    python recipes/cifar10.py --resume            # go on with the latest run

300 epochs of SGD with batches of 64, Nesterov momentum 0.9, weight decay 1e-4, learning
rate 0.1 divided by 10 after 50 % and 75 % of the epochs. 5,000 training pictures are
held out; the model of the last epoch is tested, as in the paper.

Without a network and without a prepared CIFAR-10 it trains on the hand-written digits
inside scikit-learn instead, and says so; `--data cifar10` stops instead.
"""

import sys

from keras_densenet import command_line

CIFAR10_EPOCHS = 300
DIGITS_EPOCHS = 10
DROPOUT_WITHOUT_AUGMENTATION = 0.2  # section 4.2

DEFAULTS = {
    "seed_everything": 0,
    "model.network": "DenseNetBC",
    "data": "CIFAR10",
}
SHORTCUTS = {
    "--depth": "--model.depth",
    "--growth-rate": "--model.growth_rate",
    "--cosine": "--model.lr_schedule=cosine",
    "--memory-efficient": "--model.memory_efficient",
    "--no-augment": "--data.augment=false",
    "--batch-size": "--data.batch_size",
    "--data-dir": "--data.data_dir",
    "--max-epochs": "--trainer.max_epochs",
    "--strategy": "--trainer.strategy",
    "--precision": "--trainer.precision",
    "--fast-dev-run": "--trainer.fast_dev_run=true",
    "--export-dir": "--export_dir",
    "--resume": "--ckpt_path=last",
    "--seed": "--seed_everything",
}


def main(options: command_line.Options) -> None:
    """Train, test and, if asked to, export."""
    import keras_densenet as kd

    options.seed()
    data = options.data()
    if options.names_data:
        data.prepare_data()
    else:
        data = kd.data.prepared_or_digits(data)
    on_digits = isinstance(data, kd.data.Digits)
    given = options.values
    dropout = 0.0 if data.augment else DROPOUT_WITHOUT_AUGMENTATION
    epochs = DIGITS_EPOCHS if on_digits else CIFAR10_EPOCHS
    module = options.module(dropout_rate=given.model.dropout_rate or dropout)
    trainer = options.trainer(max_epochs=given.trainer.max_epochs or epochs)
    trainer.fit(module, datamodule=data, ckpt_path=given.ckpt_path)
    metrics = trainer.test(module, datamodule=data)
    if given.export_dir:
        trainer.export(module, given.export_dir)
    name = "the digits, NOT CIFAR-10" if on_digits else "CIFAR-10"
    print(f"Test error on {name}: {100 * (1 - metrics['accuracy']):.2f} %")


def add_export_dir(parser) -> None:
    """Add where to export to, if at all."""
    parser.add_argument(
        "--export_dir", default=None, help="write a SavedModel for TF Serving there"
    )


if __name__ == "__main__":
    # Also all that `python -m keras_densenet fit` has; help comes before TensorFlow.
    arguments = command_line.parse(
        sys.argv[1:],
        __doc__,
        defaults=DEFAULTS,
        shortcuts=SHORTCUTS,
        add=add_export_dir,
    )
    with command_line.no_traceback(resume=["--resume"]):
        main(arguments)
