"""Figures of a matrix as SVG: claims on one scale, the ρ-curve, bytes against score, routes. Each opens by itself."""

from collections.abc import Callable, Sequence
from functools import partial
from statistics import fmean

from markupsafe import Markup, escape

from fedkim.evaluation.seeds import MEASURABLE, PairedSeeds
from fedkim.experiments.claims import Decided
from fedkim.experiments.methods import title_of
from fedkim.experiments.our_tables import LINKED, rho_points
from fedkim.experiments.scores import Scores
from fedkim.report.drawing import Series, line_chart, number, ticks
from fedkim.report.template import style

COMPARED = ("fedplug", "fedplug-lora", "fedplug-lora-matched", "fedkim")
"""Methods of the learning curves."""

_NAME_SPACE = "http://www.w3.org/2000/svg"
_ROW, _NAMES, _WIDTH, _EDGE = 22, 350, 720, 24
_FAR = 15.0
"""Points from which on a difference isn't drawn to scale."""


def all_figures(scores: Scores, decided: Sequence[Decided]) -> dict[str, tuple[str, Markup]]:
    """By file name: a caption and the drawing; those without data are left out."""
    drawn = {
        "claims": (
            "Differences of the claims in points, 95 % intervals over seeds; ±2 points dotted.",
            claims(decided) if scores.evaluated else Markup(""),
        ),
        "rho": ("Unseen tasks by ρ, mean AUROC; dotted: chance, where everything must lie at ρ = 0.", rho(scores)),
        "bytes": ("What the sites send (MiB) against AUROC on seen tasks, one point a method.", sent(scores)),
        "learning": (
            "Loss of the injection by round, nats per answer token, mean over seeds: whether a method had enough steps.",
            learning(scores),
        ),
        "routes": ("α by task and expert of FEDKIM's first seed; dark: a large weight.", routes(scores)),
    }
    return {name: (caption, figure) for name, (caption, figure) in drawn.items() if figure}


def standalone(figure: Markup) -> str:
    """The drawing as a file: with its name space and the page's colours."""
    head, rest = str(figure).split(">", 1)
    named = head.replace("<svg ", f'<svg xmlns="{_NAME_SPACE}" ', 1)
    return f"{named}><style>{style()}</style>{rest}\n"


def claims(decided: Sequence[Decided]) -> Markup:
    """A forest of the claims that have seeds; positive is right."""
    rows = [(one, one.verdict.paired) for one in decided if one.verdict.paired is not None]
    if not rows:
        return Markup("")
    near = [paired for _, paired in rows if paired and abs(paired.mean) <= _FAR]
    reach = max(max(abs(paired.low), abs(paired.high), MEASURABLE) for paired in near or [rows[0][1]] if paired)
    marks = ticks(-reach, reach, about=6)
    low, high = marks[0], marks[-1]

    def at(value: float) -> float:
        return _NAMES + (value - low) / (high - low) * (_WIDTH - _NAMES - 60)

    height = _EDGE + _ROW * len(rows) + 20
    parts = [f'<svg class="plot" viewBox="0 0 {_WIDTH} {height}" role="img" aria-label="claims">']
    for mark in marks:
        parts.append(_upright(at(mark), height - 24, "grid"))
        parts.append(f'<text x="{at(mark):.1f}" y="{height - 8}" text-anchor="middle">{number(mark)}</text>')
    parts += [_upright(at(edge), height - 24, "chance") for edge in (-MEASURABLE, MEASURABLE)]
    parts.append(_upright(at(0.0), height - 24, "interval"))
    for index, (one, paired) in enumerate(rows):
        assert paired is not None
        beyond = "→" if paired.mean > high else "←" if paired.mean < low else ""
        parts.append(_claim(one, paired, at, _EDGE + _ROW * index, beyond=beyond))
    return Markup("".join(parts) + "</svg>")


def rho(scores: Scores) -> Markup:
    """Mean unseen AUROC over ρ by method, and the proxy head's; a curve is of the seeds that all of its points have."""
    curves = [(title_of(method), rho_points(scores, method), "") for method in LINKED]
    curves.append(("best seen head (proxy)", rho_points(scores, "fedkim", row="proxy"), "dashed"))
    most = max((len(by_seed) for _, points, _ in curves for by_seed in points.values()), default=0)
    lines = []
    for index, (name, points, stroke) in enumerate(curves):
        seeds = set.intersection(*(set(by_seed) for by_seed in points.values())) if points else set()
        if not seeds:
            continue
        drawn: list[tuple[float, float | None]] = [
            (value, fmean(by_seed[seed] for seed in sorted(seeds))) for value, by_seed in points.items()
        ]
        named = name if len(seeds) == most else f"{name}, {len(seeds)} of {most} seeds"
        lines.append(Series(name=named, points=drawn, colour=index, style=stroke))
    if max((len(line.points) for line in lines), default=0) < 2:
        return Markup("")
    return _chart(lines, x_label="ρ", y_label="AUROC, points", baseline=50.0, y_range=(40.0, 100.0), whole=False)


def learning(scores: Scores) -> Markup:
    """The injection's mean loss by round of the methods that learn from the same public labels."""
    series: list[Series] = []
    for method in COMPARED:
        cells = [cell for group in scores.group(method).values() for cell in group]
        losses = [cell.injection_losses for cell in cells]
        if losses:
            rounds = sorted(set.intersection(*(set(by_round) for by_round in losses)))
            points: list[tuple[float, float | None]] = [
                (number, fmean(by_round[number] for by_round in losses)) for number in rounds
            ]
            series.append(Series(name=title_of(method), points=points, colour=len(series)))
    return _chart(series, x_label="round", y_label="nats a token") if series else Markup("")


def sent(scores: Scores) -> Markup:
    """One point a method: bytes of all sites against seen AUROC."""
    series: list[Series] = []
    for method, variation, backbone in scores.groups():
        values = scores.by_seed(method, "seen", backbone=backbone) if not variation else {}
        if not values:
            continue
        cells = [cell for group in scores.group(method, backbone=backbone).values() for cell in group]
        mebibytes = fmean(cell.bytes_sent for cell in cells) / 2**20
        name = f"{title_of(method)}, {backbone}"
        series.append(Series(name=name, points=[(mebibytes, fmean(values.values()))], colour=len(series)))
    return _chart(series, x_label="MiB sent", y_label="AUROC, points") if series else Markup("")


def routes(scores: Scores) -> Markup:
    """α of the first FEDKIM cell as shades, a row a task. Experts of different seeds have nothing in common."""
    groups = scores.group("fedkim")
    record = next(iter(groups.values()))[0].record.get("routes") if groups else None
    if not record:
        return Markup("")
    tasks, experts = record["tasks"], record["experts"]
    side, top = 24, 22
    height, width = top + side * len(tasks) + 6, _NAMES + side * experts
    largest = max(max(weights) for weights in tasks.values())
    parts = [f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" aria-label="routes">']
    for expert in range(experts):
        parts.append(f'<text x="{_NAMES + (expert + 0.5) * side:.0f}" y="14" text-anchor="middle">{expert + 1}</text>')
    for row, (task, weights) in enumerate(tasks.items()):
        y = top + side * row
        parts.append(f'<text x="{_NAMES - 8}" y="{y + 16}" text-anchor="end">{escape(task)}</text>')
        for expert, weight in enumerate(weights):
            parts.append(
                f'<rect class="bar c0" x="{_NAMES + expert * side}" y="{y}" width="{side - 1}" height="{side - 1}" '
                f'style="opacity:{weight / largest:.2f}"><title>{weight:.3f}</title></rect>'
            )
    return Markup("".join(parts) + "</svg>")


_chart = partial(line_chart, width=600, height=280, legend=True)
"""Figures stand alone, so they name what they show."""


def _upright(x: float, bottom: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x:.1f}" x2="{x:.1f}" y1="8" y2="{bottom}"/>'


def _claim(one: Decided, paired: PairedSeeds, at: Callable[[float], float], y: float, *, beyond: str) -> str:
    colour = {"holds": "c2", "doesn't hold": "c6"}.get(one.verdict.word, "c4")
    title = escape(
        f"{one.claim.sentence}: {one.verdict.word}, {paired.mean:+.2f} [{paired.low:+.2f}, {paired.high:+.2f}]"
    )
    name = f'<text x="{_NAMES - 10}" y="{y + 4}" text-anchor="end">{escape(_short(f"{one.claim.number}. {one.claim.sentence}"))}</text>'
    if beyond:  # one that is far off would leave no room for the others
        return f'{name}<text x="{_WIDTH}" y="{y + 4}" text-anchor="end">{paired.mean:+.1f} {beyond}<title>{title}</title></text>'
    return (
        f"{name}"
        f'<line class="{colour}" stroke-width="3" x1="{at(paired.low):.1f}" x2="{at(paired.high):.1f}" y1="{y}" y2="{y}">'
        f"<title>{title}</title></line>"
        f'<circle class="dot {colour}" cx="{at(paired.mean):.1f}" cy="{y}" r="4"><title>{title}</title></circle>'
    )


def _short(sentence: str) -> str:
    return sentence if len(sentence) <= 60 else sentence[:59] + "…"
