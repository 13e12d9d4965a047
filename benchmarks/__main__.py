"""``python -m benchmarks [m3oe] [model_step] [decoding] [growth] [bfloat16] [loading] [aggregation] [sites] [poisoning] [crowding] [membership] …``; the first three by default."""

import argparse
import importlib

import torch

from benchmarks.measure import DTYPES, LEAST_PAIRS, Report, Settings, environment

BENCHMARKS = ("m3oe", "model_step", "decoding")
ON_REQUEST = ("growth", "bfloat16", "loading", "aggregation", "sites", "poisoning", "crowding", "membership")


def main() -> None:
    """Run the benchmarks named on the command line and print each figure beside its target."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS + ON_REQUEST)}")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="fp32", choices=DTYPES)
    parser.add_argument("--dim", type=int, help="width of the single layer (4096) or of the random model (512)")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, help="tokens per sample")
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--experts", type=int, default=12)
    parser.add_argument("--dropout", type=float, default=0.0, help="of every adapter")
    parser.add_argument("--rounds", type=int, default=LEAST_PAIRS, help=f"at least {LEAST_PAIRS} for a verdict")
    parser.add_argument(
        "--only",
        action="append",
        default=[],
        help="parts of a benchmark: layer, bytes, train, generate, mean, rules, memory, harness",
    )
    parser.add_argument(
        "--llm", default="", help="registered language model whose shape model_step takes (smollm2-135m)"
    )
    parser.add_argument("--plot", default="", help="where growth writes its figure (.svg or .png)")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", default="", help="write the figures to this file too")
    arguments = vars(parser.parse_args())
    names = arguments.pop("names") or BENCHMARKS
    if unknown := set(names) - {*BENCHMARKS, *ON_REQUEST}:
        parser.error(
            f"no benchmark called {', '.join(sorted(unknown))}; there are {', '.join(BENCHMARKS + ON_REQUEST)}"
        )
    torch.set_num_threads(arguments.pop("threads"))
    path = arguments.pop("json")
    settings = Settings(**{**arguments, "only": tuple(arguments["only"])})
    report = Report(settings)
    print("  ".join(f"{name} {value}" for name, value in environment(settings.device).items()))
    for name in names:
        importlib.import_module(f"benchmarks.{name}").run(settings, report)
    report.summary()
    if path:
        report.write(path)


if __name__ == "__main__":
    main()
