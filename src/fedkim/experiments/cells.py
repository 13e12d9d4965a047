"""Running a matrix: cells side by side as processes of one thread each, resumable at every cell and within it.

A cell is done when its JSON stands below ``results``; a killed one resumes its own folder, ``runs/<matrix>/<cell>``, at its
last round. Cells share data and untouched extraction through the cache; cells that train alike are one process, which
trains once (``adoption``). They share nothing else.
"""

import fnmatch
import os
import shutil
import sys
import time
import tomllib
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from fedkim.errors import FedkimError
from fedkim.experiments.adoption import adopt, donor_of, heirs_of, trained_in
from fedkim.experiments.choosing import read_chosen, write_chosen
from fedkim.experiments.ground import ground, require_same_ground
from fedkim.experiments.keeping import keep_cell, read_kept
from fedkim.experiments.matrix import Cell, Matrix, choice_method, result_file
from fedkim.experiments.matrix_file import load_matrix
from fedkim.experiments.scores import CELLS
from fedkim.progress import Progress, Silent
from fedkim.recipe import Recipe, from_dict, plugin_digests
from fedkim.run.kept_result import as_kept
from fedkim.run.processes import Processes
from fedkim.store.environment import require_same_plugins
from fedkim.store.files import make_folder
from fedkim.store.run_folder import RunFolder
from fedkim.store.run_store import RunStore

_AGAIN = "delete it, and it is run again"
KEPT = "kept"
"""An empty file beside the rounds that ``keep`` named."""
AT_ONCE = 6
"""Cells of a smoke run in one process: starting Python would cost more than they do."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one call of the runner did."""

    done: tuple[str, ...]
    """Cells finished by this call."""
    stored: int
    """Cells that were finished before."""
    failed: tuple[str, ...]
    left: int
    """Cells of the selection that are still to do."""


def run_matrix(
    path: Path,
    *,
    runs: Path,
    results: Path,
    smoke: bool = False,
    choose: bool = False,
    only: str = "*",
    at_most: int | None = None,
    jobs: int = 2,
    keep: str = "",
    progress: Progress | None = None,
) -> Outcome:
    """Run the cells of a matrix that have no result yet, in the file's order.

    Args:
        path: the matrix file.
        runs: folder of the runs, one below ``<matrix>/<cell>``.
        results: folder of the results.
        smoke: the matrix made small, with a random language model; runs and results carry ``-smoke`` in their name.
        choose: run the choice's cells instead, and write down what they chose.
        only: a pattern of cell names, such as ``fedkim*--fedprox--*``.
        at_most: stop after so many cells.
        jobs: cells side by side.
        keep: a pattern of cells whose rounds stay on disk once they are done; a round of SmolLM2 with 12 experts takes 350 MB.
        progress: told of every cell, with the time left.

    Raises:
        FedkimError: see :func:`load_matrix` and :func:`read_chosen`; nothing matches ``only``; a result that was made with
            other settings than the matrix has now. A cell that fails doesn't stop the others.
    """
    progress = progress or Silent()
    matrix = load_matrix(path, smoke=smoke)
    selected = select(matrix, choose=choose, only=only)
    chosen = {} if choose else read_chosen(matrix, results)
    # all of them, whatever is selected: no cell is run beside results of other settings, for they would be compared
    finished = {cell for cell in (matrix.choice if choose else matrix.cells) if is_done(results, matrix, cell, chosen)}
    if not choose:
        _require_no_strangers(results, matrix)
    waiting = [cell for cell in selected if cell not in finished]
    now = waiting[:at_most]
    batches = _batches(matrix, now, chosen)
    try:
        make_folder(results)  # rather now than when a cell has been run
    except OSError as error:
        raise FedkimError(f"results folder {results}", found=error.strerror or type(error).__name__) from None
    processes, done, failed = Processes(), [], []
    with progress.stage("cells", len(now)) as stage, ThreadPoolExecutor(max(1, jobs)) as threads:

        def work(batch: Sequence[Cell]) -> None:
            began = time.perf_counter()
            errors = _run(processes, _command(path, runs, results, smoke, keep, batch))
            for cell in batch:
                if result_file(results, matrix.name, cell).exists():
                    done.append(cell.name)
                    seconds = (time.perf_counter() - began) / len(batch)
                    progress.line(f"{cell.name}: {seconds:.0f} s")
                else:
                    failed.append(cell.name)
                    own = [line for line in errors if line.startswith(f"{cell.name}: ")]
                    message = (own or errors or ["no result"])[-1].removeprefix(f"{cell.name}: ")
                    progress.line(f"{cell.name}: failed; {message}")
                stage.advance()

        try:
            list(threads.map(work, batches))
        except BaseException:
            processes.stop()
            raise
    if choose and len(done) + len(selected) - len(waiting) == len(matrix.choice):
        progress.line(f"chosen settings in {write_chosen(matrix, results)}")
    return Outcome(
        done=tuple(done), stored=len(selected) - len(waiting), failed=tuple(failed), left=len(waiting) - len(done)
    )


def select(matrix: Matrix, *, choose: bool = False, only: str = "*") -> list[Cell]:
    """The cells of the matrix, or of its choice, whose name matches a pattern.

    Raises:
        FedkimError: no cell does.
    """
    if choose and not matrix.choice:
        remedy = "leave out --choose" + ("; a smoke run has no choice" * matrix.smoke)
        raise FedkimError(f"[choice] of {matrix.name}", found="nothing to choose", remedy=remedy)
    found = [cell for cell in (matrix.choice if choose else matrix.cells) if fnmatch.fnmatch(cell.name, only)]
    if not found:
        raise FedkimError(f"cells of {matrix.name}", found=f"none that match {only!r}", remedy="see --list")
    return found


def run_cell(matrix: Matrix, cell: Cell, *, runs: Path, results: Path, keep: str = "") -> Path:
    """Run (or resume) one cell in this process and keep its result; its rounds are deleted then, unless ``keep`` matches."""
    from fedkim.run import run_recipe

    began = time.process_time()
    chosen = read_chosen(matrix, results) if cell.configuration is None else {}
    recipe = matrix.recipe(cell, chosen)
    folder = runs / matrix.name / cell.name
    donor = donor_of(matrix, cell, chosen)
    if _outlived(folder, recipe):
        with RunStore.open(folder, recipe, force=True):
            pass
    if donor:
        adopt(recipe, folder, runs / matrix.name / donor.name)
    result = run_recipe(recipe, out=folder)
    spent = time.process_time() - began
    origin = trained_in(folder) if donor else ""
    number = chosen.get(choice_method(cell.method))
    path = keep_cell(
        results, recipe, cell, result, run=folder, processor_seconds=spent, chosen=number, trained_in=origin
    )
    if fnmatch.fnmatch(cell.name, keep):
        (folder / KEPT).touch()  # also for a later call, whose heirs would delete what this one was asked to keep
    for done in (cell, donor):
        if not done or (runs / matrix.name / done.name / KEPT).exists():
            continue
        needed = any(not result_file(results, matrix.name, heir).exists() for heir in heirs_of(matrix, done, chosen))
        if not needed and result_file(results, matrix.name, done).exists():
            shutil.rmtree(runs / matrix.name / done.name / "rounds", ignore_errors=True)
    return path


def _batches(matrix: Matrix, cells: Sequence[Cell], chosen: Mapping[str, int]) -> list[list[Cell]]:
    """Cells by process: alone, after one whose training is theirs too, or some of a smoke run together."""
    if matrix.smoke:
        return [list(cells[start : start + AT_ONCE]) for start in range(0, len(cells), AT_ONCE)]
    waiting = dict.fromkeys(cells)
    batches = []
    while waiting:
        first = next(iter(waiting))
        batch = [first, *(heir for heir in heirs_of(matrix, first, chosen) if heir in waiting)]
        batches.append(batch)
        for cell in batch:
            del waiting[cell]
    return batches


def is_done(results: Path, matrix: Matrix, cell: Cell, chosen: Mapping[str, int] | None = None) -> bool:
    """Whether a cell has its result.

    Raises:
        FedkimError: it has one, made with other settings than the matrix and its choice give it now, or with other code of a plug-in.
    """
    path = result_file(results, matrix.name, cell)
    if not path.exists():
        return False
    about = read_kept(path)["run_info"]
    recipe = matrix.recipe(cell, chosen)
    try:
        made = from_dict(tomllib.loads(about["config"]), source=str(path))
    except FedkimError:  # a key that this version doesn't have: no advice about the recipe helps
        raise FedkimError(f"result {path}", found="a recipe of another version of fedkim", remedy=_AGAIN) from None
    if as_kept(made).digest() != as_kept(recipe).digest():
        raise FedkimError(
            f"result {path}",
            found="made with other settings than the matrix or its choice give now",
            remedy=_AGAIN,
        )
    made, own = about.get("environment", {}).get("plugins", {}), plugin_digests(recipe.run.plugins)
    require_same_plugins(made, own, f"result {path}", _AGAIN)
    return True


def _require_no_strangers(results: Path, matrix: Matrix) -> None:
    """Refuse kept results under the matrix's name that it doesn't list, run on other ground: they would be compared with its own."""
    listed = {cell.name for cell in matrix.cells}
    for own in [cell for cell in matrix.cells if not cell.variation][:1]:
        for path in sorted((results / matrix.name).glob(CELLS)):
            if path.stem in listed or (about := read_kept(path)["run_info"])["cell"]["variation"]:
                continue
            here = ground(matrix.recipe(own).to_dict(), own.method)
            there = ground(tomllib.loads(about["config"]), about["cell"]["method"])
            require_same_ground(here, there, f"result {path}", f"the matrix {matrix.name}")


def standing(results: Path, matrix: Matrix, cell: Cell) -> str:
    """``done``, ``waiting``, or ``unlike`` where the cell has a result that the matrix refuses."""
    if not result_file(results, matrix.name, cell).exists():
        return "waiting"
    try:
        chosen = read_chosen(matrix, results) if cell.configuration is None else {}
        return "done" if is_done(results, matrix, cell, chosen) else "waiting"
    except FedkimError:
        return "unlike"


def _outlived(folder: Path, recipe: Recipe) -> bool:
    """Whether a cell's folder is of no use to it: of other settings or a version that had others, or finished and asked again, its rounds deleted since.

    Raises:
        FedkimError: other settings, and weights that ``keep`` named.
    """
    if not (folder / "recipe.json").is_file():
        return False
    stored = RunFolder(folder)
    try:
        same = stored.is_of(recipe)
    except FedkimError:  # damaged
        same = False
    if not same and (folder / KEPT).exists():
        raise FedkimError(
            f"run folder {folder}", found="kept weights of other settings", remedy="move it, or delete it"
        )
    return not same or ((folder / "result.json").exists() and not stored.committed_rounds())


def _command(path: Path, runs: Path, results: Path, smoke: bool, keep: str, batch: Sequence[Cell]) -> list[str]:
    size = "smoke" if smoke else "full"
    names = [cell.name for cell in batch]
    return [sys.executable, "-m", "fedkim.experiments", str(path), str(runs), str(results), size, keep, *names]


def _run(processes: Processes, command: Sequence[str]) -> list[str]:
    """What the process wrote about errors; nothing if it ended well."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    process = processes.start(command, environment=environment, keep_errors=True)
    if process is None:
        return ["stopped"]
    _, errors = process.communicate()
    lines = errors.decode(errors="replace").strip().splitlines()
    if process.returncode == 0:
        return []
    return lines or [f"exit status {process.returncode}"]
