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

from keras_densenet import command_line

EPOCHS = 40
DIGITS_EPOCHS = 10

DEFAULTS = {
    "seed_everything": 0,
    "model.network": "DenseNetBC",
    "model.dropout_rate": 0.2,
    "data": "SVHN",
}


def main(options: command_line.Options) -> None:
    """Train, test the network that validates best and, if asked to, export it."""
    import keras_densenet as kd

    options.seed()
    data = options.data_or_digits()
    on_digits = isinstance(data, kd.data.Digits)
    epochs = DIGITS_EPOCHS if on_digits else EPOCHS
    module = options.module()
    trainer = options.trainer(max_epochs=options.values.trainer.max_epochs or epochs)
    trainer.fit(module, datamodule=data, ckpt_path=options.values.ckpt_path)
    checkpoint = trainer.checkpoint_callback  # None in a fast_dev_run
    best = "best" if checkpoint and checkpoint.best_model_path else None
    if best is None:
        print("No epoch was validated: the last network is tested, not the best.")
    metrics = trainer.test(module, datamodule=data, ckpt_path=best)
    if options.values.export_dir:
        trainer.export(module, options.values.export_dir)
    trainer.report(module, datamodule=data, ckpt_path=best)
    name = "the digits, NOT SVHN" if on_digits else data.title
    print(f"Test error on {name}: {100 * (1 - metrics['accuracy']):.2f} %")


if __name__ == "__main__":
    command_line.run_recipe(main, __doc__, defaults=DEFAULTS)
