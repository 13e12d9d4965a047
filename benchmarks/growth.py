"""How the cost of one adapted layer grows with experts, rank, width, batch and sequence.

Each point is forward and backward of one layer over the frozen layer's (forward, and the gradient of its input), by
turns; only the named size changes, the others stay at the middle of their range. ``--plot FILE`` draws it.
"""

import statistics
from pathlib import Path

import torch
from torch import nn

from benchmarks import peers
from benchmarks.m3oe import _call, _floor, _routed, _step
from benchmarks.measure import Report, Settings, take_turns

AXES: dict[str, tuple[int, ...]] = {
    "experts": (1, 2, 4, 8, 16, 32, 64),
    "rank": (2, 4, 8, 16, 32, 64),
    "dim": (256, 512, 1024, 2048, 4096),
    "batch": (1, 2, 4, 8, 16),
    "tokens": (8, 32, 128, 512),
}
LABELS = {
    "experts": "experts P",
    "rank": "rank r",
    "dim": "width of the layer",
    "batch": "batch",
    "tokens": "tokens per sample",
}
FORMS = {"m3oe": "M3OE", "lora P·r": "LoRA of rank P·r", "einsum": "as printed (einsum)"}
START = {"experts": 12, "rank": 8, "dim": 1024, "batch": 4, "tokens": 64}
ROUNDS = 9


def run(settings: Settings, report: Report) -> None:
    """Every axis; prints a row per point."""
    report.title("growth: forward and backward of one layer over the frozen layer's")
    points: dict[str, dict[int, dict[str, float]]] = {}
    for axis, values in AXES.items():
        points[axis] = {}
        for value in values:
            points[axis][value] = _point(settings, **{**START, axis: value})
            row = "  ".join(f"{name} {number:.2f}" for name, number in points[axis][value].items())
            print(f"{LABELS[axis]:<22} {value:>5}  {row}", flush=True)
            report.times[f"{axis} {value}, over frozen"] = points[axis][value]
    if settings.plot:
        draw(points, Path(settings.plot))


def _point(settings: Settings, *, experts: int, rank: int, dim: int, batch: int, tokens: int) -> dict[str, float]:
    torch.manual_seed(0)
    P, r, share = experts, rank, settings.dropout
    x = torch.randn(batch, tokens, dim, device=settings.device, dtype=settings.torch_dtype, requires_grad=True)
    upstream = torch.randn_like(x)
    weights = torch.rand(batch, P, device=settings.device).softmax(-1).requires_grad_()
    base = peers.frozen(dim, settings.device, settings.torch_dtype)
    linear = base.proj
    assert isinstance(linear, nn.Linear)
    einsum = peers.EinsumExperts(linear, P, r, share)
    einsum.weights = weights
    ours = peers.m3oe(peers.Block(linear), P, r, share, ["proj"], 64).train()
    lora = peers.PlainLora(linear, P * r, share)
    variants = {
        "frozen": _step(_call(base, x), upstream, base, [x]),
        "m3oe": _step(_call(ours, x) if P == 1 else _routed(ours, weights, x), upstream, ours, [x, weights]),
        "lora P·r": _step(_call(lora, x), upstream, lora, [x]),
        "einsum": _step(_call(einsum, x), upstream, einsum, [x, weights]),
    }
    seconds = take_turns(variants, device=settings.device, rounds=ROUNDS)
    ratios = {
        name: statistics.median(one / other for one, other in zip(seconds[name], seconds["frozen"], strict=True))
        for name in FORMS
    }
    return {**ratios, "floor": _floor(dim, P * r) / _floor(dim, 0)}


def draw(points: dict[str, dict[int, dict[str, float]]], path: Path) -> None:
    """One panel per axis."""
    import matplotlib

    matplotlib.use("svg" if path.suffix == ".svg" else "agg")
    matplotlib.rcParams["svg.hashsalt"] = "fedkim"
    import matplotlib.pyplot as plt

    figure, panels = plt.subplots(
        1, len(points), figsize=(3.0 * len(points), 3.2), sharey=True, constrained_layout=True
    )
    for panel, (axis, rows) in zip(panels, points.items(), strict=True):
        for name, label in FORMS.items():
            panel.plot(list(rows), [row[name] for row in rows.values()], marker="o", markersize=3, label=label)
        panel.plot(list(rows), [row["floor"] for row in rows.values()], color="grey", linestyle=":", label="FLOP floor")
        panel.set_xscale("log", base=2)
        panel.set_yscale("log", base=2)
        panel.set_xticks(list(rows), [str(value) for value in rows])
        panel.set_yticks([1, 2, 4, 8, 16], ["1", "2", "4", "8", "16"])
        panel.set_xlabel(LABELS[axis])
        panel.grid(visible=True, alpha=0.3)
    panels[0].set_ylabel("time over the frozen layer")
    panels[0].legend(fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Date": None} if path.suffix == ".svg" else None)
