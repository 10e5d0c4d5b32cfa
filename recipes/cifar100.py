"""DenseNet on CIFAR-100, as in the paper (section 4.2; Table 2, C100+ and C100).

    python recipes/cifar100.py                    # DenseNet-BC, L = 100, k = 12
    python recipes/cifar100.py --no-augment       # C100: no augmentation, dropout 0.2
    python recipes/cifar100.py --resume           # go on with the latest run

The training is that of `cifar10.py`: 300 epochs of SGD with batches of 64, Nesterov
momentum 0.9, weight decay 1e-4, learning rate 0.1 divided by 10 after 50 % and 75 % of
the epochs; pictures mirrored and shifted by up to 4 pixels (the "+"). 5,000 training
pictures are held out; the model of the last epoch is tested. The authors' final runs
train on all 50,000: `--data.validation_size 0`, which is what the errors belong to.

    options                                 parameters   error, %      memory, GB
                                                         C100+  C100   False True "full"
    --depth 100                                  0.80 M  22.27  24.15    2.4  0.6  0.3
    --depth 250 --growth-rate 24                 15.5 M  17.60  19.64   23.1  2.9  1.5
    --depth 190 --growth-rate 40                 25.8 M  17.18  -       23.7  3.7  2.0
    --depth 40 --growth-rate 36                  1.58 M  22.30  -        1.9  0.7  0.4
    --depth 40 --growth-rate 48                  2.78 M  20.29  -        2.5  1.0  0.6
    --depth 40 --growth-rate 60                  4.32 M  19.99  -        3.1  1.2  0.7
    --network DenseNet --depth 40                1.06 M  24.42  27.55    1.3  0.3  0.3
    --network DenseNet --depth 100               7.08 M  20.20  23.79    7.7  0.6  0.6
    --network DenseNet --depth 100 --growth-rate 24
                                                 27.5 M  19.25  23.42   15.0  1.2  1.2

Errors are the paper's, those of the wide networks (L = 40 with bottlenecks) from the
authors' README. Memory is what a batch of 64 takes in float32 by `--memory-efficient`,
without weights, computed by `keras_densenet.analysis.profile`.

    --cosine                              to 0 along a cosine instead of in steps
    --batch-size 256 --scale-lr           four times the batch, the learning rate 0.4

Without a network and without a prepared CIFAR-100 it trains on the hand-written digits
inside scikit-learn instead, and says so; `--data cifar100` stops instead.
"""

from keras_densenet import command_line

EPOCHS = 300
DIGITS_EPOCHS = 10

DEFAULTS = {
    "seed_everything": 0,
    "model.network": "DenseNetBC",
    "data": "CIFAR100",
}
SHORTCUTS = command_line.RECIPE_SHORTCUTS | {
    "--no-augment": "--data.augment=false --model.dropout_rate=0.2",  # section 4.2
}


def main(options: command_line.Options) -> None:
    """Train, test the last epoch's network, export it if asked to, and report."""
    import keras_densenet as kd

    options.seed()
    data = options.data_or_digits()
    on_digits = isinstance(data, kd.data.Digits)
    epochs = DIGITS_EPOCHS if on_digits else EPOCHS
    module = options.module()
    trainer = options.trainer(max_epochs=options.values.trainer.max_epochs or epochs)
    trainer.fit(module, datamodule=data, ckpt_path=options.values.ckpt_path)
    metrics = trainer.test(module, datamodule=data)
    if options.values.export_dir:
        trainer.export(module, options.values.export_dir)
    trainer.report(module, datamodule=data)
    name = "the digits, NOT CIFAR-100" if on_digits else data.title
    print(f"Test error on {name}: {100 * (1 - metrics['accuracy']):.2f} %")


if __name__ == "__main__":
    command_line.run_recipe(main, __doc__, defaults=DEFAULTS, shortcuts=SHORTCUTS)
