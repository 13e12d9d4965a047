"""``python -m benchmarks.gpu``: M3OE at InternLM2-7B's shapes in bfloat16, on a CUDA device; into ``results/gpu/``.

Each kind of projection of the model by itself (forward and backward, bytes kept for the backward pass, peak memory), then a
whole training step with random weights, on whose values no time depends. As everywhere here, variants take turns and a figure
is the median ratio within a round.

What a GPU is asked beyond what a CPU has answered: whether adapters that compute in float32 on a bfloat16 base, as PEFT makes
them by default, cost what the ratio of the two rates threatens; and how much memory the printed form takes.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from benchmarks import model_step, peers
from benchmarks.m3oe import _call, _routed, _step
from benchmarks.measure import LEAST_PAIRS, Report, Settings, environment, exact, kept_bytes, ratio, take_turns
from fedkim.injection import LLMS

RESULTS = Path(__file__).parents[1] / "results" / "gpu"
LLM = "mmedlm2"
"""The registered model whose shapes are measured; MMedLM-2 is an InternLM2-7B."""


def main(words: Sequence[str] | None = None) -> None:
    """Measure on the first CUDA device and write what came out."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--tokens", type=int, default=256, help="per sample")
    parser.add_argument("--experts", type=int, default=12)
    parser.add_argument("--rank", type=int, default=8)
    parser.add_argument("--dropout", type=float, default=0.0, help="of every adapter")
    parser.add_argument("--rounds", type=int, default=LEAST_PAIRS, help=f"at least {LEAST_PAIRS} for a verdict")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder for the JSON file")
    arguments = vars(parser.parse_args(words))
    if not torch.cuda.is_available():
        parser.error(
            "no CUDA device here; the same comparison on a CPU: python -m benchmarks m3oe, python -m benchmarks model_step"
        )
    folder = arguments.pop("out")
    settings = Settings(device="cuda", dtype="bf16", **arguments)
    print("  ".join(f"{name} {value}" for name, value in environment(settings.device).items()))
    print(f"written to {measure(LLM, settings, folder)}")


def measure(llm: str, settings: Settings, folder: Path) -> Path:
    """Every projection and the step of a registered model of the Llama layout; gives the file written."""
    torch.manual_seed(0)
    report = Report(settings)
    for name, (inner, outer) in projections(llm).items():
        one_projection(name, inner, outer, settings, report)
        if settings.device.startswith("cuda"):
            torch.cuda.empty_cache()
    model_step.run(replace(settings, llm=llm), report)
    machine = str(environment(settings.device)["machine"])
    path = folder / f"{llm}--{re.sub(r'[^a-z0-9]+', '-', machine.lower()).strip('-')}.json"
    report.write(path)
    return path


def projections(llm: str) -> dict[str, tuple[int, int]]:
    """Width in and out of each kind of projection in a block of the Llama layout."""
    sizes = LLMS[llm].config
    width, inner = sizes["hidden_size"], sizes["intermediate_size"]
    narrow = width // sizes["num_attention_heads"] * sizes["num_key_value_heads"]
    return {"q, o": (width, width), "k, v": (width, narrow), "gate, up": (width, inner), "down": (inner, width)}


def one_projection(name: str, inner: int, outer: int, settings: Settings, report: Report) -> None:
    """One frozen projection ``[inner] -> [outer]`` and everything that may sit on it, on the same tokens."""
    P, r, share = settings.experts, settings.rank, settings.dropout
    device, dtype = settings.device, settings.torch_dtype
    tokens = settings.tokens or 256
    linear = nn.Linear(inner, outer, bias=False, device=device, dtype=dtype).requires_grad_(False)
    x = torch.randn(settings.batch, tokens, inner, device=device, dtype=dtype, requires_grad=True)
    upstream = torch.randn(settings.batch, tokens, outer, device=device, dtype=dtype)
    weights = torch.rand(settings.batch, P, device=settings.device).softmax(-1).requires_grad_()
    einsum = peers.EinsumExperts(linear, P, r, share)
    einsum.weights = weights
    wide = LoraConfig(r=P * r, lora_alpha=P * r, lora_dropout=share, target_modules=["proj"])
    modules: dict[str, nn.Module] = {
        "frozen": peers.Block(linear),
        "lora P·r": peers.PlainLora(linear, P * r, share),
        "lora P·r in float32": get_peft_model(peers.Block(linear), wide).train(),
        "m3oe": peers.m3oe(peers.Block(linear), P, r, share, ["proj"], inner).train(),
        "einsum": einsum,
    }
    forward: dict[str, Callable[[], Tensor]] = {key: _call(module, x) for key, module in modules.items()}
    forward["m3oe"] = _routed(modules["m3oe"], weights, x)
    report.title(
        f"{name}: {inner} -> {outer}, P = {P}, r = {r}, {settings.batch} × {tokens} tokens, {settings.dtype}, dropout {share}"
    )
    steps = {key: _step(make, upstream, modules[key], [x, weights]) for key, make in forward.items()}
    seconds = take_turns(steps, device=settings.device, rounds=settings.rounds)
    report.remember(name, seconds)
    rank = P * r
    floor = (2 * inner * outer + 3 * rank * (inner + outer)) / (2 * inner * outer)
    report.add(
        ratio(f"{name}: m3oe / lora P·r", seconds["m3oe"], seconds["lora P·r"], target=1.05),
        ratio(f"{name}: m3oe / frozen", seconds["m3oe"], seconds["frozen"], note=f" floor {floor:.3f}"),
        ratio(f"{name}: einsum / m3oe", seconds["einsum"], seconds["m3oe"], target=1.5, at_least=True),
        ratio(f"{name}: lora P·r in float32 / lora P·r", seconds["lora P·r in float32"], seconds["lora P·r"]),
    )
    owned = [x, weights, *(p for module in modules.values() for p in module.parameters())]
    kept = {key: kept_bytes(make, owned) / (settings.batch * tokens) for key, make in forward.items()}
    report.times[f"{name}: kept bytes per token"] = kept
    print("  kept bytes per token: " + "  ".join(f"{key} {value:.0f}" for key, value in kept.items()))
    if share == 0:  # dropout keeps its mask and its product in every form, which would hide the difference
        counted = kept["einsum"] / max(kept["m3oe"], 1)
        report.add(exact(f"{name}: kept bytes, einsum / m3oe", counted, target=50, at_least=True))
    if settings.device.startswith("cuda"):
        peaks = {key: _peak(step) / 2**20 for key, step in steps.items()}
        report.times[f"{name}: peak MiB above what stays"] = peaks
        print("  peak MiB above what stays: " + "  ".join(f"{key} {value:.0f}" for key, value in peaks.items()))


def _peak(step: Callable[[], object]) -> int:
    """Most bytes on the device during one step, less those that were there before it."""
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


if __name__ == "__main__":
    main()
