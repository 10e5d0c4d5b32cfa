"""Seconds from the call that trains to the end of its first step.

    python benchmarks/first_step.py

They include building, tracing, optimizing and compiling the network. Importing is
measured separately. Each run is a process of its own; the variants take turns.
"""

import statistics

import side_by_side

VARIANTS = [
    "keras",
    "trainer_plain",
    "trainer_true",
    "trainer_full",
    "applications",
    "torch",
    "torch_compile",
]


def main() -> None:
    """Measure and report."""
    parser = side_by_side.parser(__doc__, VARIANTS)
    parser.add_argument("--depth", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    variants = side_by_side.available(arguments.variants)
    first: dict[str, list[dict]] = {variant: [] for variant in variants}
    for _ in range(arguments.rounds):
        for variant in variants:
            with side_by_side.worker(
                variant, depth=arguments.depth, growth_rate=arguments.growth_rate
            ) as worker:
                first[variant].append(worker.first)
    rows = [_row(variant, runs, first) for variant, runs in first.items()]
    title = (
        f"First step of DenseNet-BC (L={arguments.depth}, k={arguments.growth_rate}), "
        f"batch 64, {arguments.rounds} processes each"
    )
    versions = {}
    for runs in first.values():
        versions |= runs[0]["versions"]
    name = f"first_step_{arguments.depth}_{arguments.growth_rate}"
    side_by_side.report(name, title, rows, versions, arguments.output_dir)


def _row(variant: str, runs: list[dict], first: dict[str, list[dict]]) -> dict:
    seconds = [run["first_step_s"] for run in runs]
    row: dict = {
        "variant": side_by_side.LABELS[variant],
        "import, s": statistics.median(run["imported_s"] for run in runs),
        "first step, s": statistics.median(seconds),
        "fastest": min(seconds),
        "slowest": max(seconds),
    }
    if "keras" in first:
        peer = [run["first_step_s"] for run in first["keras"]]
        ratios = [a / b for a, b in zip(seconds, peer, strict=True)]
        row["/ keras"] = statistics.median(ratios)
    return row


if __name__ == "__main__":
    main()
