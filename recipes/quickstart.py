"""Everything once, on a laptop and without a network: 2 minutes on 2 CPU cores.

    python recipes/quickstart.py          # or: make demo

A DenseNet-BC (L = 22, k = 12; 72 thousand parameters) learns the 1,797 hand-written
digits that come with scikit-learn: 12 epochs, about 98 % of the held-out digits right.
It is tested, drawn (Figure 5 of the paper), reported on (`report.html` in its folder),
exported, loaded back, and used.
"""

from pathlib import Path
from typing import Any

import keras_densenet as kd


def main(
    max_epochs: int = 12,
    seed: int = 42,
    resume: bool | Path = False,
    fast_dev_run: bool | int = False,
    output_dir: Path = Path(),
    export_dir: Path = Path("saved_models/digits"),
) -> None:
    """Train, test, look inside, report, export, load back, classify.

    Args:
        max_epochs: How often all pictures are shown.
        seed: Of the weights, the order of the pictures and their augmentation.
        resume: Go on with the latest run, or from this checkpoint.
        fast_dev_run: Run one batch of everything, or so many, to see that it works.
        output_dir: Where `runs` is written to.
        export_dir: Where the SavedModel for TensorFlow Serving is written to.
    """
    kd.seed_everything(seed)
    data = kd.data.Digits(batch_size=32)  # shifted by up to 4 pixels
    module = kd.ImageClassifier(
        kd.DenseNetBC,
        depth=22,
        growth_rate=12,
        learning_rate=0.1,  # divided by 10 after 6 and 9 of 12 epochs
        milestones=(0.5, 0.75),
        momentum=0.9,  # Nesterov's
        weight_decay=1e-4,
    )
    trainer = kd.Trainer(
        max_epochs=max_epochs, fast_dev_run=fast_dev_run, default_root_dir=output_dir
    )
    trainer.fit(
        module,
        datamodule=data,
        ckpt_path="last" if resume is True else resume or None,
    )
    trainer.test(module, datamodule=data)

    folder = trainer.log_dir or Path(trainer.default_root_dir)
    picture = folder / "feature_reuse.png"
    kd.analysis.plot_feature_reuse(kd.analysis.feature_reuse(module.model), picture)
    print(f"Feature reuse (Figure 5 of the paper): {picture}")
    trainer.report(module, datamodule=data)

    version = trainer.export(module, export_dir)
    data.setup("test")
    images, labels = next(iter(data.test_dataset()))
    classify(version, images[:1] * data.std + data.mean, int(labels[0]))


def classify(version: Path, images: Any, label: int) -> None:
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


if __name__ == "__main__":
    kd.run_recipe(main)
