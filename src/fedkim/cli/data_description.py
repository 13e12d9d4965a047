"""``fedkim data splits | stats``: how a recipe divides its data, and what each site holds, small groups of patients hidden."""

import json
import tomllib
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedkim.cli.options import AsJson, Overrides
from fedkim.cli.terminal import console
from fedkim.data.smallest_cell import SMALLEST_CELL
from fedkim.errors import FedkimError

if TYPE_CHECKING:
    from fedkim.recipe import Recipe


def splits(recipe: str, /, *, set_: Overrides = None, out: Path | None = None) -> None:
    """Print a recipe's split as it is published: the rule, the seed and the counts, and nothing about any patient.

    Args:
        recipe: A recipe's file or name.
        set_: Change a key of the recipe: --set table.key=value. May be repeated.
        out: Also write it to this JSON file.
    """
    chosen = _recipe(recipe, set_)
    published = _published(chosen)
    text = json.dumps(published, indent=1, ensure_ascii=False)
    if out:
        try:
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text(text + "\n", encoding="utf-8")
        except OSError as error:
            found = error.strerror or type(error).__name__
            raise FedkimError(f"file {out}", found=found, remedy="choose a folder you can write") from None
    print(text)


def _published(recipe: "Recipe") -> dict[str, Any]:
    from fedkim.data import paper_split
    from fedkim.data.registry import SOURCES
    from fedkim.data.sources import public
    from fedkim.errors import unknown

    if recipe.data.source not in SOURCES:
        raise unknown("data source", recipe.data.source, SOURCES)
    about = {"data": sorted(recipe.data.roots) or [recipe.data.source]}
    if recipe.data.source == "public":
        cohort = public.gather(recipe)
        if recipe.data.split == "paper":
            rows = paper_split.place_by_row(cohort.records, seen=recipe.tasks.seen, seed=recipe.run.seed)
            counts = Counter(row.split for row in rows)
            shown = [str(line) for line in paper_split.exposure(cohort.records, rows, cohort.same)]
            return about | {"rule": paper_split.NAME, "seed": recipe.run.seed, "rows": dict(counts), "leaks": shown}
        return about | public.deal(cohort, recipe).published()
    from fedkim.data.sample import SPLITS
    from fedkim.data.statistics import disclose

    dataset = SOURCES[recipe.data.source](recipe)
    patients = {sample.patient: sample.split for sample in dataset}
    tasks: dict[str, dict[str, set[str]]] = {}
    for sample in dataset:
        for task in sample.labels:
            tasks.setdefault(task, {split: set() for split in SPLITS})[sample.split].add(sample.patient)
    counted = {split: sum(found == split for found in patients.values()) for split in SPLITS}
    counted_by_task = {
        task: {split: len(held) for split, held in splits.items()} for task, splits in sorted(tasks.items())
    }
    own = recipe.data.source == "hospital"
    return about | {
        "rule": f"that of the source {recipe.data.source!r}",
        "seed": recipe.run.seed,
        "patients": disclose(counted).counts if own else counted,
        "patients_by_task": {
            task: _told(counts, counted) if own else counts for task, counts in counted_by_task.items()
        },
    }


def _told(counts: Mapping[str, int], of: Mapping[str, int]) -> dict[str, int | None]:
    """Patients with an answer by split; hidden also where few of the split's have none."""
    from fedkim.data.statistics import disclose

    shown = disclose(counts).counts
    return {split: None if 0 < of[split] - counts[split] < SMALLEST_CELL else shown[split] for split in counts}


def stats(
    what: str,
    /,
    *,
    set_: Overrides = None,
    smallest: int = SMALLEST_CELL,
    html: Path | None = None,
    as_json: AsJson = False,
) -> None:
    """Tell what each site of a recipe holds, and how sites differ, with small groups of patients hidden.

    Args:
        what: A recipe's file or name, or a hospital's site.toml.
        set_: Change a key of the recipe: --set table.key=value. May be repeated.
        smallest: Cells with fewer patients are hidden, and enough others that nobody can compute them.
        html: Also write a page with plots to this file.
        as_json: Print JSON.
    """
    if smallest < 2:
        raise FedkimError("--smallest", found=str(smallest), expected="2 or more")
    sites, synthetic = _sites(what, set_)
    from fedkim.data.statistics import compare, describe_sites, prevalence  # torch comes with it

    told = describe_sites(sites, k=smallest)
    compared = compare(told)
    if html:
        from fedkim.report.statistics import write_statistics

        write_statistics(told, html, title=f"What the sites of {what} hold", k=smallest, synthetic=synthetic)
    if as_json:
        by_site = {name: statistics.to_dict() for name, statistics in told.items()}
        print(
            json.dumps({"smallest": smallest, "synthetic": synthetic, "sites": by_site, "compared": compared}, indent=1)
        )
        return
    from rich.table import Table

    from fedkim.report.words import percent, shown_count

    table = Table(show_edge=False, pad_edge=False)
    for column in ("", *told, "range"):
        table.add_column(column, justify="left" if not column else "right", no_wrap=True)
    table.add_row("patients", *(shown_count(site.patients) for site in told.values()), "")
    for modality in next(iter(told.values())).modalities:
        table.add_row(
            f"with {modality}", *(shown_count(s.modalities[modality].counts["with"]) for s in told.values()), ""
        )
    for task, found in compared["tasks"].items():
        table.add_row(task, *(percent(prevalence(s.tasks[task])) for s in told.values()), percent(found["range"]))
    console().print(table)
    differing = sorted(
        (
            (found["largest_mean_difference"], name)
            for name, found in compared["features"].items()
            if found["largest_mean_difference"] is not None
        ),
        reverse=True,
    )
    for difference, name in differing[:5]:
        print(f"sites differ in {name} by up to {difference:.2f} standard deviations")
    print(f"cells below {smallest} patients are hidden, and enough others that nobody can compute them")
    if html:
        print(f"page {html}")


def _sites(what: str, overrides: list[str] | None) -> tuple[dict[str, Any], bool]:
    if what.endswith(".toml") and _is_site_file(Path(what)):
        from fedkim.data.hospital import load_site
        from fedkim.site.participant import import_approved_plugins

        import_approved_plugins(Path(what))
        own = load_site(Path(what))
        return {own.name or "site": own}, own.synthetic
    recipe = _recipe(what, overrides)
    from fedkim.run.world import build_world  # torch comes with it

    world = build_world(recipe)
    return dict(world.sites), world.data.synthetic


def _is_site_file(path: Path) -> bool:
    try:
        return "site" in tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError):
        return False  # told when it's read as a recipe


def _recipe(name: str, overrides: list[str] | None) -> "Recipe":
    from fedkim.cli.recipes import find_recipe
    from fedkim.cli.terminal import settle_threads
    from fedkim.recipe import import_plugins, load

    recipe = load(find_recipe(name), *(overrides or ()))
    settle_threads(recipe)
    import_plugins(recipe.run.plugins)
    return recipe
