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

import argparse
import shlex
import sys

CIFAR10_EPOCHS = 300
DIGITS_EPOCHS = 10
DROPOUT_WITHOUT_AUGMENTATION = 0.2  # section 4.2
MEMORY_MODES = {"False": False, "True": True, "full": "full"}


def parse_args() -> argparse.Namespace:
    """Read the command line, before TensorFlow takes its seconds to load."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--depth", type=int, default=100, help="L = 6 n + 4 (default: 100)")
    add("--growth-rate", type=int, default=12, help="k (default: 12)")
    add("--no-augment", action="store_true", help="no mirroring, no shifting; dropout")
    add("--batch-size", type=int, default=64, help="over all GPUs (default: 64)")
    add("--max-epochs", type=int, help="default: 300; 10 on the digits")
    add("--data", choices=["auto", "cifar10", "digits"], default="auto")
    add("--data-dir", help="where TFDS keeps its data (default: TFDS_DATA_DIR)")
    add("--strategy", choices=["auto", "none", "mirrored"], default="auto")
    add("--precision", default="32-true", help="or bf16-mixed, 16-mixed")
    add(
        "--memory-efficient",
        choices=list(MEMORY_MODES),
        default="False",
        help="what to compute again instead of storing it (default: False)",
    )
    add("--seed", type=int, default=0)
    add("--fast-dev-run", action="store_true", help="one batch of all, keep nothing")
    add("--export-dir", help="write a SavedModel for TensorFlow Serving there")
    add(
        "--resume",
        nargs="?",
        const="last",
        metavar="CHECKPOINT",
        help="go on with the latest run, or with this checkpoint",
    )
    return parser.parse_args()


def choose_data(args: argparse.Namespace):
    """Give CIFAR-10, or the digits if they are asked for or all there is."""
    import keras_densenet as kd

    shared = {"batch_size": args.batch_size, "augment": not args.no_augment}
    if args.data == "digits":
        return kd.data.Digits(**shared)
    data = kd.data.CIFAR10(data_dir=args.data_dir, **shared)
    if args.data == "cifar10":
        data.prepare_data()
        return data
    return kd.data.prepared_or_digits(data)


def main(args: argparse.Namespace) -> None:
    """Train, test and, if asked to, export."""
    import keras_densenet as kd

    kd.seed_everything(args.seed)
    data = choose_data(args)
    on_digits = isinstance(data, kd.data.Digits)
    module = kd.ImageClassifier(
        kd.DenseNetBC,
        depth=args.depth,
        growth_rate=args.growth_rate,
        dropout_rate=DROPOUT_WITHOUT_AUGMENTATION if args.no_augment else 0.0,
        memory_efficient=MEMORY_MODES[args.memory_efficient],
    )
    trainer = kd.Trainer(
        max_epochs=args.max_epochs or (DIGITS_EPOCHS if on_digits else CIFAR10_EPOCHS),
        strategy=args.strategy,
        precision=args.precision,
        fast_dev_run=args.fast_dev_run,
        default_root_dir=f"runs/{'digits' if on_digits else 'cifar10'}",
    )
    trainer.fit(module, datamodule=data, ckpt_path=args.resume)
    metrics = trainer.test(module, datamodule=data)
    if args.export_dir:
        trainer.export(module, args.export_dir)
    name = "the digits, NOT CIFAR-10" if on_digits else "CIFAR-10"
    print(f"Test error on {name}: {100 * (1 - metrics['accuracy']):.2f} %")


if __name__ == "__main__":
    arguments = parse_args()
    import keras_densenet

    try:
        main(arguments)
    except SystemExit as end:
        if end.code in (130, 143):  # Ctrl-C, SIGTERM
            resume = [] if "--resume" in sys.argv else ["--resume"]
            print("To go on:", shlex.join(["python", *sys.argv, *resume]))
        raise
    except (
        ValueError,
        keras_densenet.data.DataUnavailableError,
        keras_densenet.training.NotANumberError,
    ) as error:
        sys.exit(f"error: {error}")
