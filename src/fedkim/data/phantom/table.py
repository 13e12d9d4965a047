"""The acceptance table in words: Markdown, with each band and what misses it; of one seed, or over several."""

from collections.abc import Mapping, Sequence
from typing import Any

from fedkim.data.phantom.acceptance import RHOS, Acceptance
from fedkim.data.phantom.settings import GENERATOR_VERSION

_BY_RHO = (
    "| unseen task | small model at ρ = 0 / .5 / 1 | partner's head at ρ = 0 / .5 / 1 | accuracy over majority at ρ = 0 (≤ .02) |",
    "|---|---|---|---|",
)


def as_text(table: Acceptance) -> str:
    """The table as Markdown, with the bands and what misses them."""
    s = table.settings
    lines = [
        f"Synthetic (phantom) federation, seed {s.seed}, ρ = {s.rho:g}; fitted on {s.image_patients} / {s.signal_patients} / "
        f"{s.icu_patients} pictures, ECGs and stays, measured on as many others; {table.seconds:.0f} s.",
        "",
        "| task | prevalence | oracle AUROC (≥ .93) | small model AUROC (.80–.95) | best single number, AUROC (≤ .65) | misses |",
        "|---|---|---|---|---|---|",
    ]
    for row in table.tasks:
        misses = ", ".join(row.misses()) or "–"
        lines.append(
            f"| phantom {row.task} | {row.prevalence:.2f} | {row.oracle:.3f} | {row.small:.3f} "
            f"| {row.scalar:.3f} ({row.scalar_name}) | {misses} |"
        )
    lines += [
        "",
        *_BY_RHO,
    ]
    for row in table.tasks:
        if row.proxy_by_rho:
            small = " / ".join(f"{row.small_by_rho[rho]:.3f}" for rho in RHOS)
            proxy = " / ".join(f"{row.proxy_by_rho[rho]:.3f}" for rho in RHOS)
            lines.append(f"| phantom {row.task} | {small} | {proxy} | {row.proxy_gain_without_link:+.3f} |")
    lines += [
        "",
        "| questions | majority by template | blind, by exact wording (≤ majority + .02) | misses |",
        "|---|---|---|---|",
    ]
    for asked in table.questions:
        misses = ", ".join(asked.misses()) or "–"
        lines.append(f"| phantom {asked.task} | {asked.majority:.3f} | {asked.blind:.3f} | {misses} |")
    return "\n".join(lines)


def as_record(table: Acceptance) -> dict[str, Any]:
    """The figures of one seed for a JSON file, rounded to thousandths."""
    settings = table.settings
    return {
        "seed": settings.seed,
        "generator": GENERATOR_VERSION,
        "patients": [settings.image_patients, settings.signal_patients, settings.icu_patients],
        "tasks": {
            row.task: {
                "oracle": round(row.oracle, 3),
                "small": round(row.small, 3),
                "scalar": round(row.scalar, 3),
                "scalar_name": row.scalar_name,
                "small_by_rho": {f"{rho:g}": round(value, 3) for rho, value in row.small_by_rho.items()},
                "proxy_by_rho": {f"{rho:g}": round(value, 3) for rho, value in row.proxy_by_rho.items()},
                "proxy_gain_without_link": round(row.proxy_gain_without_link, 3) if row.proxy_by_rho else None,
                "misses": row.misses(),
            }
            for row in table.tasks
        },
        "questions": {
            row.task: {"majority": round(row.majority, 3), "blind": round(row.blind, 3), "misses": row.misses()}
            for row in table.questions
        },
    }


def over_seeds(records: Sequence[Mapping[str, Any]]) -> str:
    """Per task the lowest and highest figure over seeds, as Markdown, with every seed that misses a band."""
    seeds = ", ".join(str(record["seed"]) for record in records)
    pictures, waves, stays = records[0]["patients"]
    lines = [
        f"Synthetic (phantom) federation, seeds {seeds}, ρ = 1; fitted on {pictures} / {waves} / {stays} pictures, ECGs and stays, "
        "measured on as many others. Lowest – highest over seeds.",
        "",
        "| task | oracle AUROC (≥ .93) | small model AUROC (.80–.95) | best single number, AUROC (≤ .65) | misses |",
        "|---|---|---|---|---|",
    ]
    for task in records[0]["tasks"]:
        rows = [(record["seed"], record["tasks"][task]) for record in records]
        missed = [f"seed {seed}: {', '.join(row['misses'])}" for seed, row in rows if row["misses"]]
        ranges = [_range([row[key] for _, row in rows]) for key in ("oracle", "small", "scalar")]
        lines.append(f"| phantom {task} | {' | '.join(ranges)} | {'; '.join(missed) or '–'} |")
    lines += [
        "",
        *_BY_RHO,
    ]
    for task, first in records[0]["tasks"].items():
        if not first["proxy_by_rho"]:
            continue
        figures = [record["tasks"][task] for record in records]
        columns = [
            " / ".join(_range([row[key][rho] for row in figures]) for rho in first[key])
            for key in ("small_by_rho", "proxy_by_rho")
        ]
        gain = _range([row["proxy_gain_without_link"] for row in figures], sign="+")
        lines.append(f"| phantom {task} | {' | '.join(columns)} | {gain} |")
    lines += [
        "",
        "| questions | blind, by exact wording, over the majority by template (≤ +.02) | misses |",
        "|---|---|---|",
    ]
    for task in records[0]["questions"]:
        rows = [(record["seed"], record["questions"][task]) for record in records]
        missed = [f"seed {seed}" for seed, row in rows if row["misses"]]
        gain = _range([row["blind"] - row["majority"] for _, row in rows], sign="+")
        lines.append(f"| phantom {task} | {gain} | {'; '.join(missed) or '–'} |")
    return "\n".join(lines)


def _range(values: Sequence[float], sign: str = "") -> str:
    low, high = min(values), max(values)
    return f"{low:{sign}.3f}" if low == high else f"{low:{sign}.3f} – {high:{sign}.3f}"
