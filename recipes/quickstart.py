"""Everything once, on a laptop and without a network: 2 minutes on 2 CPU cores.

    python recipes/quickstart.py          # or: make demo

A DenseNet-BC (L = 22, k = 12; 72 thousand parameters) learns the 1,797 hand-written
digits that come with scikit-learn: 12 epochs, about 99 % of the held-out digits right.
It is tested, drawn (Figure 5 of the paper), exported, loaded back, and used.
"""

import argparse
from pathlib import Path

EPOCHS = 12


def parse_args() -> argparse.Namespace:
    """Read the command line, before TensorFlow takes its seconds to load."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--max-epochs", type=int, default=EPOCHS)
    parser.add_argument("--fast-dev-run", action="store_true", help="one batch of all")
    parser.add_argument("--output-dir", type=Path, default=Path("runs/quickstart"))
    parser.add_argument("--export-dir", type=Path, default=Path("saved_models/digits"))
    return parser.parse_args()


def main(args: argparse.Namespace) -> None:
    """Train, test, look inside, export, load back, classify."""
    import keras_densenet as kd

    kd.seed_everything(42)
    data = kd.data.Digits(batch_size=32)
    module = kd.ImageClassifier(kd.DenseNetBC, depth=22, growth_rate=12)
    trainer = kd.Trainer(
        max_epochs=args.max_epochs,
        fast_dev_run=args.fast_dev_run,
        default_root_dir=args.output_dir,
    )
    trainer.fit(module, datamodule=data)
    trainer.test(module, datamodule=data)

    picture = args.output_dir / "feature_reuse.png"
    picture.parent.mkdir(parents=True, exist_ok=True)
    kd.analysis.plot_feature_reuse(kd.analysis.feature_reuse(module.model), picture)
    print(f"Feature reuse (Figure 5 of the paper): {picture}")

    version = trainer.export(module, args.export_dir)
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

    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    answer = serve(images=tf.constant(images, tf.float32))
    class_id = int(answer["class_ids"][0])
    probability = float(answer["probabilities"][0, class_id])
    for row in images[0, ::4, ::4, 0].numpy():
        print(
            "    " + "".join(" .:-=+*#%@"[round(value * 9 / 255)] * 2 for value in row)
        )
    print(f"{version} says: a {class_id}, with {probability:.1%}. It is a {label}.")


if __name__ == "__main__":
    main(parse_args())
