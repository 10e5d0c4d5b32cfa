"""DenseNet on CIFAR-10, as in the paper (section 4.2; Table 2, columns C10+ and C10).

    python recipes/cifar10.py                     # DenseNet-BC, L = 100, k = 12
    python recipes/cifar10.py --no-augment        # C10: no augmentation, dropout 0.2
    python recipes/cifar10.py --depth 22 --max-epochs 3    # minutes on a laptop
    python recipes/cifar10.py --resume            # go on with the latest run

300 epochs of SGD with batches of 64, Nesterov momentum 0.9, weight decay 1e-4, learning
rate 0.1 divided by 10 after 50 % and 75 % of the epochs. Training pictures are mirrored
and shifted by up to 4 pixels (the "+"). 5,000 training pictures are held out; the model
of the last epoch is tested. The authors' final runs train on all 50,000:
`--data.validation_size 0`, which is what the errors below belong to.

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

from keras_densenet import command_line

EPOCHS = 300
DIGITS_EPOCHS = 10

DEFAULTS = {
    "seed_everything": 0,
    "model.network": "DenseNetBC",
    "data": "CIFAR10",
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
    name = "the digits, NOT CIFAR-10" if on_digits else data.title
    print(f"Test error on {name}: {100 * (1 - metrics['accuracy']):.2f} %")


if __name__ == "__main__":
    command_line.run_recipe(main, __doc__, defaults=DEFAULTS, shortcuts=SHORTCUTS)
