"""The acceptance table in words: Markdown, with each band and what misses it."""

from fedkim.data.phantom.acceptance import RHOS, Acceptance


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
        "| unseen task | small model at ρ = 0 / .5 / 1 | partner's head at ρ = 0 / .5 / 1 | accuracy over majority at ρ = 0 (≤ .02) |",
        "|---|---|---|---|",
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
