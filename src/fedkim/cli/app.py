"""The verbs. Each imports what it needs when it runs, so that ``--help`` answers at once."""

import contextlib
import json
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import App, CycloptsError, Parameter

from fedkim import __version__
from fedkim.cli.interrupts import Terminated, interruptible
from fedkim.cli.llm import llm
from fedkim.errors import FedkimError, unknown

if TYPE_CHECKING:
    from rich.console import Console

    from fedkim.recipe import Recipe
    from fedkim.run import Answer

app = App(
    name="fedkim",
    version=f"fedkim {__version__}",
    help="Federated knowledge injection: hospitals teach a medical language model while their data stays with them.",
    default_parameter=Parameter(negative=()),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
app.command(llm)

Overrides = Annotated[list[str] | None, Parameter(name="--set")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for a user's mistake, 130 after Ctrl-C, 143 after SIGTERM."""
    logging.basicConfig(level=logging.WARNING, format="fedkim: %(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # not the user's to heed
    again = "run the same command again to resume"
    try:
        with interruptible():
            app(sys.argv[1:] if arguments is None else arguments, **_QUIET)
    except FedkimError as error:
        return _fail(2, f"error: {error}")
    except CycloptsError as error:
        return _fail(2, f"error: {' '.join(str(error).split())}; see fedkim --help")
    except KeyboardInterrupt:
        return _fail(130, f"interrupted; {again}")
    except Terminated:
        return _fail(143, f"terminated; {again}")
    except BrokenPipeError:  # whoever read our output has seen enough
        with contextlib.suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0


_QUIET: dict[str, Any] = {
    "exit_on_error": False,
    "print_error": False,
    "result_action": "return_value",
}


def _fail(status: int, text: str) -> int:
    print(f"fedkim: {text}", file=sys.stderr)
    return status


@app.command
def demo(*, force: bool = False, out: Path | None = None, set_: Overrides = None) -> None:
    """Run the whole of FEDKIM on synthetic patients with a real language model: five and a half minutes on two cores.

    A second time it prints the stored table.

    Args:
        force: Run anew even if a result is stored.
        out: The run's folder; runs/demo if not given.
        set_: Change a key of the recipe: --set table.key=value. May be repeated.
    """
    run("demo", force=force, out=out, set_=set_)


@app.command
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
        recipe: A TOML file, or the name of a recipe that comes along: demo, fast, paper, real-pack, smoke.
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
    _settle_threads(chosen)
    if check:
        from fedkim.run import check_recipe

        print(check_recipe(chosen))
        return
    folder = out or Path("runs") / (f"{chosen.run.name}-folds" if numbers else chosen.run.name)
    split = "test" if reveal_test or chosen.evaluation.reveal_test else "development"
    stored = None if force or numbers else _stored(folder, chosen, split)
    if stored:
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


@app.command
def evaluate(
    run: Path,
    /,
    *,
    data: Path | None = None,
    reveal_test: bool = False,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Score a run's final model again, on its own data or on the same kind of data elsewhere.

    Args:
        run: The run's folder.
        data: Folder with the same kind of data; then the run's stored result stays as it is.
        reveal_test: Score the test split rather than development. Each use is recorded in the result.
        as_json: Print JSON.
    """
    import fedkim
    from fedkim.progress import progress_on

    with progress_on(sys.stderr) as progress:
        result = fedkim.load(run).evaluate(data, reveal_test=reveal_test, progress=progress)
    if as_json:
        print(json.dumps(result, indent=1))
    else:
        _show(result, run)


@app.command
def predict(
    run: Path,
    /,
    *,
    task: str,
    image: Path | None = None,
    signal: Path | None = None,
    start: float = 0.0,
    table: Path | None = None,
    stay: str | None = None,
    until_hour: int | None = None,
    units: str | None = None,
    question: str | None = None,
    as_json: Annotated[bool, Parameter(name="--json")] = False,
) -> None:
    """Ask a run's model one question about one patient's files, with the preprocessing of the training.

    Args:
        run: The run's folder.
        task: What to ask; fedkim tasks lists them.
        image: An image file (PNG, JPEG, TIFF).
        signal: An ECG record in WFDB form, without extension.
        start: Where the ten seconds of the record begin, in seconds.
        table: An hourly ICU table (.csv or .parquet).
        stay: Which stay of the table.
        until_hour: Use the 24 hours before this one; the first day if not given.
        units: The table's units where its headers carry none: yaib.
        question: The question, for tasks without a fixed one.
        as_json: Print JSON.
    """
    from fedkim.cli.inputs import read_inputs
    from fedkim.recipe import import_plugins
    from fedkim.store import RunStore

    recipe = RunStore(run).recipe()
    _settle_threads(recipe)
    import_plugins(recipe.run.plugins)
    from fedkim.tasks import TASKS

    if task not in TASKS:
        raise unknown("task", task, TASKS)
    needed = TASKS[task].modalities
    if TASKS[task].answers is None and not question:
        raise FedkimError(f"task {task!r}", found="no question", remedy="put it with --question")
    inputs = read_inputs(
        recipe, needed, image=image, signal=signal, start=start, table=table, stay=stay, until_hour=until_hour,
        units=units,
    )  # fmt: skip
    import fedkim

    answer = fedkim.load(run).answer(task=task, **({"question": question} if question else {}), **inputs)
    print(_answer_json(task, answer) if as_json else _answer_text(task, answer))


@app.command
def export(
    run: Path,
    /,
    *,
    task: str,
    to: Path,
    modalities: str | None = None,
    merge: bool = False,
    force: bool = False,
) -> None:
    """Write one task of a finished run as a stock PEFT LoRA that needs no fedkim, with encoders and a model card.

    Args:
        run: The run's folder.
        task: Whose route; fedkim tasks lists them.
        to: The folder to write, absent or empty.
        modalities: The inputs that will be given, separated by commas; all of the task's if not given.
        merge: Write a dense model with tokenizer instead of a LoRA.
        force: Replace an earlier export.
    """
    from fedkim.recipe import import_plugins
    from fedkim.store import RunStore

    recipe = RunStore(run).recipe()
    _settle_threads(recipe)
    import_plugins(recipe.run.plugins)
    names = tuple(modalities.split(",")) if modalities is not None else None
    import fedkim

    print(fedkim.load(run).export(task=task, to=to, modalities=names, merge=merge, force=force))


@app.command
def tasks(recipe: str | None = None, /) -> None:
    """List the tasks: what each asks, what it needs, how it is answered.

    Args:
        recipe: Only this recipe's, seen and unseen.
    """
    from rich.table import Table

    from fedkim.cli.recipes import find_recipe
    from fedkim.recipe import import_plugins, load

    roles: dict[str, str] = {}
    if recipe:
        chosen = load(find_recipe(recipe))
        import_plugins(chosen.run.plugins)
        roles = dict.fromkeys(chosen.tasks.seen, "seen") | dict.fromkeys(chosen.tasks.unseen, "unseen")
    from fedkim.tasks import TASKS

    for name in roles:
        if name not in TASKS:
            raise unknown("task", name, TASKS)
    table = Table(show_edge=False, pad_edge=False)
    for column in ("task", *(["role"] if roles else []), "needs", "answers", "question"):
        table.add_column(column, no_wrap=column in ("task", "role"))
    for name in roles or TASKS:
        task = TASKS[name]
        answers = " / ".join(task.answers) if task.answers else "free text"
        role = [roles[name]] if roles else []
        table.add_row(name, *role, ", ".join(task.modalities), answers, task.question)
    _console().print(table)


@app.command
def report(run: Path, /) -> None:
    """Write a run's report.html anew from its stored result; one file, readable offline.

    Args:
        run: The run's folder.
    """
    from fedkim.report import write_report
    from fedkim.store import RunStore

    result = RunStore(run).result()
    if result is None:
        found = "no result yet" if run.is_dir() else "no such folder"
        raise FedkimError(f"run folder {run}", found=found, remedy="run its recipe to the end first")
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


def _settle_threads(recipe: "Recipe") -> None:
    """Fix the thread count before torch is imported, as its libraries read it once."""
    os.environ["OMP_NUM_THREADS"] = str(recipe.run.threads)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def _stored(folder: Path, recipe: "Recipe", split: str) -> dict[str, Any] | None:
    """The result of this very run, if it is complete: no need to load data and models to say it again."""
    if not (folder / "result.json").is_file() or not (folder / "recipe.json").is_file():
        return None
    from fedkim.store import RunStore

    store = RunStore(folder)
    result = store.result() if store.recipe().digest() == recipe.digest() else None
    return result if result and result.get("run_info", {}).get("split") == split else None


def _keep(results: Path | None, recipe: "Recipe", result: dict[str, Any]) -> None:
    if results:
        from fedkim.run import keep_result

        print(f"kept in {keep_result(results, recipe, result)}")


def _show(result: dict[str, Any], folder: Path) -> None:
    from fedkim.evaluation.tables import render_table

    render_table(result, _console())
    train = result.get("train_info", {})
    for digest in train.get("digests") or [train["digest"]] if train else []:
        print(f"digest of the final weights {digest}")
    print(f"report {folder / 'report.html'}")


def _console() -> "Console":
    """The terminal as wide as it is; a file wide enough that no name is cut."""
    from rich.console import Console

    return Console(width=None if sys.stdout.isatty() else 160)


def _answer_json(task: str, answer: "Answer") -> str:
    record = {
        "task": task,
        "text": answer.text,
        "probabilities": dict(answer.probabilities),
        "threshold": dict(answer.threshold),
        "route": answer.route.to_json(),
        "warnings": list(answer.warnings),
        "notice": _NOTICE,
    }
    return json.dumps(record, indent=1, ensure_ascii=False)


def _answer_text(task: str, answer: "Answer") -> str:
    lines = [f"{task}: {answer.text}"]
    lines += [f"  probability of {word}: {probability:.4f}" for word, probability in answer.probabilities.items()]
    if answer.threshold:
        lines.append(f"  threshold: {answer.threshold['value']:.3f} ({answer.threshold['source']})")
    lines += [f"  note: {warning}" for warning in answer.warnings]
    return "\n".join([*lines, _NOTICE])


_NOTICE = "Not a medical device: for research only, never for the care of a patient."
