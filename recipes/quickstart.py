"""Everything once, on a laptop and without a network: 2 minutes on 2 CPU cores.

    python recipes/quickstart.py          # or: make demo

A DenseNet-BC (L = 22, k = 12; 72 thousand parameters) learns the 1,797 hand-written
digits that come with scikit-learn: 12 epochs, about 98 % of the held-out digits right.
It is tested, drawn (Figure 5 of the paper), reported on (`report.html` in its folder),
exported, loaded back, and used.
"""

from pathlib import Path

from keras_densenet import command_line

DEFAULTS = {
    "seed_everything": 42,
    "model.network": "DenseNetBC",
    "model.depth": 22,
    "data": {"class_path": "Digits", "init_args": {"batch_size": 32}},
    "trainer.max_epochs": 12,
}
SHORTCUTS = {
    "--max-epochs": "--trainer.max_epochs",
    "--fast-dev-run": "--trainer.fast_dev_run=true",
    "--output-dir": "--trainer.default_root_dir",
    "--export-dir": "--export_dir",
}


def main(options: command_line.Options) -> None:
    """Train, test, look inside, report, export, load back, classify."""
    import keras_densenet as kd

    options.seed()
    data, module, trainer = options.data(), options.module(), options.trainer()
    trainer.fit(module, datamodule=data, ckpt_path=options.values.ckpt_path)
    trainer.test(module, datamodule=data)

    folder = trainer.log_dir or Path(trainer.default_root_dir)
    picture = folder / "feature_reuse.png"
    kd.analysis.plot_feature_reuse(kd.analysis.feature_reuse(module.model), picture)
    print(f"Feature reuse (Figure 5 of the paper): {picture}")
    trainer.report(module, datamodule=data)

    version = trainer.export(module, options.values.export_dir)
    data.setup("test")
    images, labels = next(iter(data.test_dataset()))
    classify(version, images[:1] * data.std + data.mean, int(labels[0]))


def classify(version: Path, images, label: int) -> None:
    """Load an export, which needs TensorFlow alone, and ask it about one digit.

    Args:
        version: Folder of the SavedModel.
        images: A raw picture, `(1, 32, 32, 3)` in 0..255.
        label: What it shows.
    """
    import tensorflow as tf

    picture = tf.cast(tf.round(images[0]), tf.uint8)
    predict = tf.saved_model.load(str(version)).signatures["predict_bytes"]
    answer = predict(image_bytes=tf.io.encode_png(picture)[tf.newaxis])
    name, score = answer["classes"][0, 0].numpy().decode(), answer["scores"][0, 0]
    for row in images[0, ::4, ::4, 0].numpy():
        print(
            "    " + "".join(" .:-=+*#%@"[round(value * 9 / 255)] * 2 for value in row)
        )
    print(f"{version} says: a {name}, with {score:.1%}. It is a {label}.")


def add_export_dir(parser) -> None:
    """Add where to export to."""
    parser.add_argument("--export_dir", default="saved_models/digits")


if __name__ == "__main__":
    command_line.run_recipe(
        main, __doc__, defaults=DEFAULTS, shortcuts=SHORTCUTS, add=add_export_dir
    )
