r"""Fine-tune a DenseNet on a folder of your own pictures: train, test, look, export.

    python recipes/finetune.py --data-dir my_pictures           # weights for ImageNet
    python recipes/finetune.py --data-dir my_pictures --weights densenet121.pth
    python recipes/finetune.py --data-dir my_pictures --network DenseNet201 \
        --frozen dense_block2 --export-dir saved_models/mine
    python recipes/finetune.py --data-dir my_pictures --image-size 32 \
        --network DenseNetBC --depth 40 --weights runs/.../checkpoints/last.keras
    python recipes/finetune.py --data-dir my_pictures --from-scratch   # to compare with

The folder has `train/<class>/*.jpg`, with `val/` and `test/` like it, or
`<class>/*.jpg`, of which 10 % are held out to validate on and 15 % to test on.

All weights but the classifier's are loaded: of keras.applications ("imagenet", the
default), torchvision or timm, or of a checkpoint of your own, and pictures are
standardised as they were for them. 20 epochs of SGD with batches of 32; the learning
rate falls from 0.01 to 0 along a cosine, and is 0.8 times as high from each layer to
the one before it. `--frozen backbone` trains the classifier alone, which is fast,
`--frozen dense_block2` what comes after that block. Unequal classes: `--balanced` shows
each as often, `--class-weight` weighs the loss.

Into the run's folder go, with all that a run has,

    confusion.png            what is taken for what
    class_activation.png     where in test pictures it sees what it says (Grad-CAM)
    report.html              curves, confusion, mistakes, costs, in one page
"""

from keras_densenet import command_line

EPOCHS = 20
SHOWN = 12  # pictures

DEFAULTS = {
    "seed_everything": 0,
    "model.class_path": "keras_densenet.training.FineTuning",
    "model.network": "DenseNet121",
    "model.weights": "imagenet",
    "data": {
        "class_path": "ImageFolder",
        "init_args": {"root": "my_pictures", "test_fraction": 0.15},
    },
}
SHORTCUTS = command_line.RECIPE_SHORTCUTS | {
    "--data-dir": "--data.root",
    "--weights": "--model.weights",
    "--frozen": "--model.frozen",
    "--from-scratch": "--model.weights=null --model.layer_decay=1 "
    "--model.learning_rate=0.1",
    "--image-size": "--data.image_size",
    "--balanced": "--data.balanced=true",
    "--class-weight": "--model.class_weight=balanced",
}
for not_here in ("--manual-dir", "--cosine", "--scale-lr"):
    del SHORTCUTS[not_here]


def main(options: command_line.Options) -> None:
    """Train, test, look at the answers and, if asked to, export."""
    options.seed()
    data = options.data(**preprocessing(options))
    data.prepare_data()
    if data.num_classes < 2:
        raise ValueError(f"{data.root} has one class: a classifier needs two or more.")
    data.refuse_empty("test")  # which comes after the training
    module = options.module()
    trainer = options.trainer(max_epochs=options.values.trainer.max_epochs or EPOCHS)
    trainer.fit(module, datamodule=data, ckpt_path=options.values.ckpt_path)
    metrics = trainer.test(module, datamodule=data)
    look_at_answers(trainer, module, data)
    trainer.report(module, datamodule=data)
    if options.values.export_dir:
        trainer.export(module, options.values.export_dir)
    print(f"Test error: {100 * (1 - metrics['accuracy']):.2f} %")


def preprocessing(options: command_line.Options) -> dict[str, tuple]:
    """Give mean and std that the weights are used to, unless the command line does."""
    import keras_densenet as kd

    weights, given = options.values.model.weights, options.values.data.init_args
    known = weights and kd.weights.preprocessing(weights)
    return known._asdict() if known and given.mean is given.std is None else {}


def look_at_answers(trainer, module, data) -> None:
    """Print how well each class is recognised, and draw what is confused and why."""
    import numpy as np
    from rich.table import Table

    import keras_densenet as kd

    data.setup("test")
    images, labels = (
        np.concatenate(part) for part in zip(*data.test_dataset(), strict=True)
    )
    probabilities = module.model.predict(images, verbose=0)
    predictions = kd.analysis.Predictions(labels, probabilities, data.class_names)
    table = Table("class", "pictures", "precision", "recall", title="Test pictures")
    for score in predictions.class_scores():
        shares = (f"{score.precision:.3f}", f"{score.recall:.3f}")
        table.add_row(score.name, str(score.pictures), *shares)
    trainer.console.print(table)

    folder = trainer.log_dir or trainer.default_root_dir
    confusion = kd.analysis.plot_confusion(predictions)
    confusion.savefig(folder / "confusion.png", dpi=150)
    shown = np.unique(np.linspace(0, len(images) - 1, SHOWN).astype(int))
    kd.analysis.plot_class_activation(
        images[shown] * np.float32(data.std) + np.float32(data.mean),
        kd.analysis.class_activation(module.model, images[shown]),
        [title(predictions, number) for number in shown],
        folder / "class_activation.png",
    )
    print(f"Confusion and class activation: {folder}")


def title(predictions, number: int) -> str:
    """Say what a picture was taken for, how surely and, where wrong, what it is."""
    answer, label = predictions.answers[number], predictions.labels[number]
    sure = predictions.probabilities[number, answer]
    wrong = "" if answer == label else f", is {predictions.class_names[label]}"
    return f"{predictions.class_names[answer]} {sure:.0%}{wrong}"


if __name__ == "__main__":
    command_line.run_recipe(main, __doc__, defaults=DEFAULTS, shortcuts=SHORTCUTS)
