"""Verbs about whole runs. Each imports what it needs when it runs, so that ``--help`` answers at once."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fedkim.cli.options import AsJson, Overrides
from fedkim.cli.terminal import console, settle_threads
from fedkim.errors import FedkimError
from fedkim.store.shown import shown_as_stored

if TYPE_CHECKING:
    from fedkim.recipe import Recipe


def demo(*, force: bool = False, out: Path | None = None, set_: Overrides = None) -> None:
    """Run FEDKIM with guidance (ours) on synthetic patients with a real language model: about five minutes on two cores.

    A second time it prints the stored table.

    Args:
        force: Run anew even if a result is stored.
        out: The run's folder; runs/demo if not given.
        set_: Change a key of the recipe: --set table.key=value. May be repeated.
    """
    run("demo", force=force, out=out, set_=set_)


def run(
    recipe: str,
    /,
    *,
    check: bool = False,
    set_: Overrides = None,
    out: Path | None = None,
    folds: str | None = None,
    force: bool = False,
    reveal_test: bool = False,
    results: Path | None = None,
) -> None:
    """Run a recipe, or resume its run where it stopped.

    Args:
        recipe: A TOML file, or the name of a recipe that comes along: demo, fast, paper, fedkim-plus, real-pack, hospital, federation, smoke.
        check: Only resolve everything and print parameters, memory and bytes per round; needs no weights.
        set_: Change a key of the recipe: --set table.key=value. May be repeated.
        out: The run's folder; runs/NAME if not given.
        folds: Cross-validate: all, or numbers such as 0,1.
        force: Start anew, deleting what the folder holds.
        reveal_test: Write test scores; for recipes whose settings are final. Each use is recorded in the result.
        results: Also keep the result (aggregates only) below this folder, as RECIPE/METHOD--BACKBONE--seedK.json.
    """
    from fedkim.cli.recipes import find_recipe
    from fedkim.recipe import load

    chosen = load(find_recipe(recipe), *(set_ or ()))
    numbers = _folds(folds)
    settle_threads(chosen)
    if numbers:
        from fedkim.run.folds import require_folds

        require_folds(chosen)
    if check:
        from fedkim.run import check_recipe

        print(check_recipe(chosen))
        return
    folder = out or Path("runs") / (f"{chosen.run.name}-folds" if numbers else chosen.run.name)
    split = chosen.evaluation.split(reveal_test)
    if results:
        from fedkim.run.kept_result import require_place, result_path

        about = {"run_info": {"folds": list(numbers) or [chosen.data.fold]}}
        require_place(result_path(results, chosen, about), chosen, split=split)  # rather now than after hours of work
    stored = None if force or numbers else _stored(folder, chosen, split)
    if stored:
        with shown_as_stored(f"file {folder / 'result.json'}"):
            _report_if_need_be(stored, folder)
            _show(stored, folder)
        print("this is the stored result; --force runs anew")
        _keep(results, chosen, stored)
        return
    from fedkim.progress import progress_on

    with progress_on(sys.stderr) as progress:
        if numbers:
            from fedkim.run import run_folds

            result = run_folds(chosen, numbers, out=folder, force=force, reveal_test=reveal_test, progress=progress)
        else:
            from fedkim.run import run_recipe

            result = run_recipe(chosen, out=folder, force=force, reveal_test=reveal_test, progress=progress)
    _show(result, folder)
    _keep(results, chosen, result)


def evaluate(
    run: Path,
    /,
    *,
    data: Path | None = None,
    reveal_test: bool = False,
    as_json: AsJson = False,
) -> None:
    """Score a run's final model again: on its own data, on the same kind elsewhere, or on a hospital's own patients.

    On its own data the stored result and the report of a whole run are replaced by what comes out.

    Args:
        run: The run's folder.
        data: Folder with the same kind of data, or a hospital's site.toml; the run's stored result stays as it is.
        reveal_test: Score the test split rather than development. Each use is recorded in the result.
        as_json: Print JSON.
    """
    import fedkim
    from fedkim.progress import progress_on

    opened = fedkim.load(run)
    with progress_on(sys.stderr) as progress:
        result = opened.evaluate(data, reveal_test=reveal_test, progress=progress)
    if as_json:
        print(json.dumps(result, indent=1))
    elif result.get("meta_info", {}).get("external"):
        _show_external(result)
    else:
        total, scored = opened.recipe.federation.rounds, len(result["train_info"]["rounds"])
        _show(result, run if data is None and scored == total else None)
        if scored < total:
            print(f"scores of round {scored} of {total}; no stored result is replaced by them")


def report(run: Path, /, *, markdown: bool = False) -> None:
    """Write a run's report.html anew from its stored result; one file, readable offline.

    Args:
        run: The run's folder.
        markdown: Print its tables as Markdown instead, for a page of yours.
    """
    from fedkim.report import write_report
    from fedkim.store.run_folder import RunFolder

    result = RunFolder(run).result()
    if result is None:
        found = "no result yet" if run.is_dir() else "no such folder"
        raise FedkimError(f"run folder {run}", found=found, remedy="run its recipe to the end first")
    with shown_as_stored(f"file {run / 'result.json'}"):
        if markdown:
            from fedkim.report.markdown import results_table

            print(results_table(result), end="")
            return
        print(write_report(result, run / "report.html"))


def _folds(text: str | None) -> tuple[int, ...]:
    if text is None:
        return ()
    if text == "all":
        return (0, 1, 2, 3, 4)
    numbers = text.split(",")
    if not all(number in tuple("01234") for number in numbers) or len(set(numbers)) < len(numbers):
        raise FedkimError("--folds", found=repr(text), expected="all, or different numbers of 0 to 4 such as 0,1")
    return tuple(map(int, numbers))


def _stored(folder: Path, recipe: "Recipe", split: str) -> dict[str, Any] | None:
    """The result of this very run, if it is complete: no need to load data and models to say it again."""
    if not (folder / "result.json").is_file() or not (folder / "recipe.json").is_file():
        return None
    from fedkim.store.run_folder import RunFolder

    if (
        recipe.data.source == "hospital"
        or recipe.run.plugins
        or "/" in recipe.llm.name
        or Path(recipe.llm.name).is_dir()
    ):
        return None  # whether its tables, a plug-in's code or a model's weights are the same shows once they are read
    store = RunFolder(folder)
    same = store.recipe().digest() == recipe.digest() and recipe.same_folders(store.recipe())
    result = store.result() if same else None
    return result if result and result["run_info"]["split"] == split and store.stands_for(result) else None


def _report_if_need_be(stored: dict[str, Any], folder: Path) -> None:
    """Where a process was cut off between a result and its page."""
    from fedkim.store.run_folder import RunFolder

    if not RunFolder(folder).is_reported():
        from fedkim.report import write_report

        write_report(stored, folder / "report.html")


def _keep(results: Path | None, recipe: "Recipe", result: dict[str, Any]) -> None:
    if results:
        from fedkim.run import keep_result

        print(f"kept in {keep_result(results, recipe, result)}")


def _show_external(result: dict[str, Any]) -> None:
    from fedkim.evaluation.tables import decisions_line, render_table

    render_table(result, console())
    for line in filter(None, map(decisions_line, result["metrics"].values())):
        print(line)
    told, hidden = result["meta_info"], result["meta_info"]["suppressed"]
    print(f"patients of {told['data']}; nothing below {hidden['smallest_cell']} patients is shown")
    for task in hidden["tasks"]:
        print(f"{task}: fewer than {hidden['smallest_cell']} patients, or one answer for all")


def _show(result: dict[str, Any], folder: Path | None) -> None:
    """A result, and where its report stands; a ``folder`` of None: nowhere."""
    from fedkim.evaluation.tables import render_table

    render_table(result, console())
    train = result.get("train_info", {})
    for digest in train.get("digests") or [train["digest"]] if train else []:
        print(f"digest of the weights {digest}")
    if folder:
        print(f"report {folder / 'report.html'}")
