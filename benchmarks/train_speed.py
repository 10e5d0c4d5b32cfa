r"""Images a second in training: every variant and peer in turn, round after round.

    python benchmarks/train_speed.py
    python benchmarks/train_speed.py --depth 40 --batch-size 32
    python benchmarks/train_speed.py --name others --variants keras plain \
        torch_compile recompute_grad keras_default applications
    python benchmarks/train_speed.py --name bf16 --variants keras plain full torch \
        keras_bf16 plain_bf16 full_bf16 torch_bf16
    python benchmarks/train_speed.py --rank 3 --image-size 64 --depth 121 \
        --growth-rate 32 --batch-size 2 --variants keras plain true full torch_monai

All processes exist at the same time, with up to 3.4 GB each for the default network:
choose variants that fit the machine's memory. Ratios are of two speeds in the same
round, and medians over the rounds: a machine's speed changes within minutes, but the
ratio hardly does.
"""

import statistics
from contextlib import ExitStack

import side_by_side

PEERS = ["keras", "plain", "true", "full", "torch", "torch_checkpoint"]
VARIANTS = [*PEERS, "torch_compile", "recompute_grad", "keras_default", "applications"]
VARIANTS += ["torch_monai"]
VARIANTS += [f"{v}_bf16" for v in ("keras", "plain", "true", "full", "torch")]


def main() -> None:
    """Measure and report."""
    parser = side_by_side.parser(__doc__, VARIANTS, PEERS)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--image-size", type=int, default=32)
    parser.add_argument("--rank", type=int, default=2, help="1 signals, 3 volumes")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--name", default="peers", help="part of the result's name")
    arguments = parser.parse_args()
    network = {
        "depth": arguments.depth,
        "growth_rate": arguments.growth_rate,
        "batch_size": arguments.batch_size,
        "image_size": arguments.image_size,
        "rank": arguments.rank,
    }
    versions = {}
    with ExitStack() as stack:
        workers = []
        for variant in side_by_side.available(arguments.variants):
            worker = stack.enter_context(side_by_side.worker(variant, **network))
            worker.take(2)  # to warm up
            versions |= worker.first["versions"]
            workers.append(worker)
        speeds: dict[str, list[float]] = {w.variant: [] for w in workers}
        for _ in range(arguments.rounds):
            for worker in workers:
                seconds = worker.take(2)["seconds"]
                speeds[worker.variant].append(2 * arguments.batch_size / seconds)
    rows = [_row(variant, speeds) for variant in speeds]
    title = (
        f"Training DenseNet-BC (L={arguments.depth}, k={arguments.growth_rate}), "
        f"{side_by_side.sides(arguments)}, batch {arguments.batch_size}, "
        f"{arguments.rounds} rounds"
    )
    name = f"train_speed_{arguments.name}_{arguments.depth}_{arguments.growth_rate}"
    if arguments.rank != 2:
        name += f"_{side_by_side.sides(arguments)}"
    side_by_side.report(name, title, rows, versions, arguments.output_dir)


def _row(variant: str, speeds: dict[str, list[float]]) -> dict:
    own = speeds[variant]
    row: dict = {
        "variant": side_by_side.LABELS[variant],
        "images/s": statistics.median(own),
        "slowest": min(own),
        "fastest": max(own),
    }
    for peer in ("keras", "torch", "torch_monai"):
        if peer in speeds:
            ratios = [a / b for a, b in zip(own, speeds[peer], strict=True)]
            row[f"/ {peer}"] = statistics.median(ratios)
    return row


if __name__ == "__main__":
    main()
