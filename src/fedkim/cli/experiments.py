"""Verbs about many runs: running a matrix of them, comparing their results."""

import sys
from pathlib import Path

from fedkim.errors import FedkimError
from fedkim.store.shown import shown_as_stored


def experiment(
    matrix: str,
    /,
    *,
    smoke: bool = False,
    choose: bool = False,
    only: str = "*",
    cells: int | None = None,
    jobs: int = 2,
    keep: str = "",
    runs: Path = Path("runs"),
    results: Path = Path("results"),
    list_: bool = False,
) -> None:
    """Run the cells of a matrix that have no result yet; the same command again goes on where it stopped.

    Args:
        matrix: A TOML file, or the name of a matrix that comes along, such as paper-matrix.
        smoke: Everything made small, with a random language model: three minutes on two cores. The scores mean nothing.
        choose: Run the cells that choose settings, on development patients of other seeds, and write down the choice.
        only: Cells whose name matches a pattern, such as 'fedkim*--fedprox--*'.
        cells: Stop after so many cells.
        jobs: Cells side by side, each with one thread.
        keep: Cells whose weights stay on disk, as a pattern; the others' are deleted once their result is kept.
        runs: Folder of the runs.
        results: Folder of the results.
        list_: Only print the cells: done, waiting, or unlike, where there is a result that the matrix refuses (running it says why).
    """
    for name, value in (("--jobs", jobs), ("--cells", cells)):
        if value is not None and value < 1:
            raise FedkimError(name, found=str(value), expected="1 or more")
    from fedkim.cli.recipes import find_matrix
    from fedkim.experiments.cells import run_matrix, select, standing
    from fedkim.experiments.matrix_file import load_matrix
    from fedkim.progress import progress_on

    if list_:
        loaded = load_matrix(find_matrix(matrix), smoke=smoke)
        for cell in select(loaded, choose=choose, only=only):
            print(f"{standing(results, loaded, cell):<7}  {cell.name}")
        return
    with progress_on(sys.stderr) as progress:
        outcome = run_matrix(
            find_matrix(matrix),
            runs=runs,
            results=results,
            smoke=smoke,
            choose=choose,
            only=only,
            at_most=cells,
            jobs=jobs,
            keep=keep,
            progress=progress,
        )
    print(f"{len(outcome.done)} cells done, {outcome.stored} were done before, {outcome.left} left")
    if outcome.failed:
        raise FedkimError(
            f"{len(outcome.failed)} cells",
            found="they ended with an error",
            remedy="see the lines above; the others are kept",
        )


def compare(folder: Path, /, *, out: Path | None = None, into: Path | None = None) -> None:
    """Tables, figures and claims from a matrix's results: compare.html, compare.md, SVG figures, and the scores in scores.csv.

    Args:
        folder: Folder of a matrix's results, results/NAME, or one that holds several such folders.
        out: Where the files go, a folder each if there are several matrices; runs/NAME-comparison if not given.
        into: A Markdown file whose block of results (<!-- results:NAME --> to <!-- /results:NAME -->) is written anew.
    """
    from fedkim.experiments.comparison import has_block, matrices_in, write_comparison

    matrices = matrices_in(folder)
    for matrix in matrices:
        place = Path("runs") / f"{matrix.name}-comparison"
        if out is not None:
            place = out / matrix.name if len(matrices) > 1 else out
        page = into
        if into is not None and len(matrices) > 1 and not has_block(into, matrix.name):
            print(f"{matrix.name}: {into} has no block for it", file=sys.stderr)
            page = None
        with shown_as_stored(f"results {matrix}"):
            for path in write_comparison(matrix, place, into=page):
                print(path)


def forgetting(
    runs: list[Path],
    /,
    *,
    data: Path | None = None,
    questions: int = 0,
    texts: int = 0,
    results: Path | None = None,
) -> None:
    """What a run's model has forgotten of medical text: PubMedQA and perplexity on abstracts, before and after injection.

    Args:
        runs: Folders of finished runs.
        data: Folder of the real-data pack, which holds PubMedQA; FEDKIM_DATA_PACK if not given.
        questions: At most so many test questions; all 500 if not given.
        texts: At most so many abstracts; all 500 if not given.
        results: Also keep the figures (aggregates) in this folder, as RUN.json.
    """
    for option, most in (("--questions", questions), ("--texts", texts)):
        if most < 0:
            raise FedkimError(option, found=str(most), expected="a number of at least 0; 0 for all")
    names = [run.resolve().name for run in runs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if results and twice:
        raise FedkimError(
            "--results",
            found=f"two runs named {twice[0]!r}",
            expected="names that differ: each is a file",
            remedy="one at a time, each with a --results of its own",
        )
    from fedkim.progress import progress_on
    from fedkim.run.forgetting import measure_forgetting
    from fedkim.store.files import pretty, write_text

    for run, own in zip(runs, names):
        with progress_on(sys.stderr) as progress:
            found = measure_forgetting(run, root=str(data or ""), questions=questions, texts=texts, progress=progress)
        if results:
            results.mkdir(parents=True, exist_ok=True)
            write_text(results / f"{own}.json", pretty(found))
        print(f"{run}: {found['method']} into {found['llm']}, seed {found['seed']}")
        for name, change in (("pubmedqa", "difference"), ("perplexity", "ratio")):
            if name in found:
                part = found[name]
                shown = ", ".join(f"{key} {_interval(part[key])}" for key in ("base", "injected", change))
                print(f"  {name} (n = {part['n']}): {shown}")


def _interval(score: dict[str, float | None]) -> str:
    from fedkim.report.words import interval

    return interval(score)
