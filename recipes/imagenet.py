"""DenseNet on ImageNet, as in the paper (section 4.2; Table 3).

    python recipes/imagenet.py --manual-dir archives       # DenseNet-121, through TFDS
    python recipes/imagenet.py --folder imagenet           # train/<class>/*.JPEG, val/
    python recipes/imagenet.py --memory-limited --network DenseNet161
    python recipes/imagenet.py --resume                    # go on with the latest run

90 epochs of SGD with batches of 256, Nesterov momentum 0.9, weight decay 1e-4, learning
rate 0.1 divided by 10 after epochs 30 and 60; no dropout. Training pictures: a random
crop of 8 to 100 % of the area resized to 224, colour jitter 0.4, PCA lighting 0.1,
mirrored. The network of the last epoch is tested on the 50,000 validation pictures:
short side 256, the centre of 224; and the mean of ten crops.

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

ImageNet's licence forbids that it is downloaded unasked; without it this stops and says
what to get. The digits, for a look at it: `--data digits`.
"""

from keras_densenet import command_line

EPOCHS = 90

DEFAULTS = {
    "seed_everything": 0,
    "model.network": "DenseNet121",
    "model.milestones": [30 / 90, 60 / 90],
    "data": "ImageNet",
}
SHORTCUTS = command_line.RECIPE_SHORTCUTS | {
    "--folder": "--data.folder",
    "--scale-lr": "--model.scale_lr_from=256",
    "--memory-limited": "--data.batch_size=128 --trainer.max_epochs=100 "
    "--model.milestones=[0.3,0.6,0.9]",
}
for of_small_networks in ("--depth", "--growth-rate"):
    del SHORTCUTS[of_small_networks]


def main(options: command_line.Options) -> None:
    """Train, test by one crop and by ten and, if asked to, export."""
    import keras_densenet as kd

    options.seed()
    data, module = options.data(), options.module()
    trainer = options.trainer(max_epochs=options.values.trainer.max_epochs or EPOCHS)
    trainer.fit(module, datamodule=data, ckpt_path=options.values.ckpt_path)
    print_errors("one crop", trainer.test(module, datamodule=data))
    if isinstance(data, kd.data.PictureDataModule):
        ten_crops = mean_of_views(trainer, module)
        metrics = trainer.test(ten_crops, datamodule=kd.data.TenCrops(data))
        print_errors("ten crops", metrics)
    if options.values.export_dir:
        trainer.export(module, options.values.export_dir, datamodule=data)
    trainer.report(module, datamodule=data)


def mean_of_views(trainer, module):
    """Give a model of `(N, 10, H, W, 3)` with the answer of the mean logits.

    As fb.resnet.torch has it. A logarithm of a probability is a logit but for what all
    classes have in common, which softmax takes away.
    """
    import keras

    with trainer.scope():
        views = keras.Input((10, *module.model.input_shape[1:]))
        logits = [keras.ops.log(module.model(views[:, view])) for view in range(10)]
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
    command_line.run_recipe(main, __doc__, defaults=DEFAULTS, shortcuts=SHORTCUTS)
