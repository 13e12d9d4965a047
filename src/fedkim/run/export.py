"""Export: one task of a finished run as a stock LoRA or a dense model, with encoders, projector and model card."""

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError

from fedkim.data.registry import DATA_SETS
from fedkim.errors import FedkimError, unknown
from fedkim.evaluation.result import tuned_threshold
from fedkim.evaluation.suppression import suppressed_result
from fedkim.injection import LLMS, Route, write_encoders
from fedkim.injection.quiet import quiet_transformers
from fedkim.modalities import MODALITIES
from fedkim.report.model_card import Exported, model_card
from fedkim.store.files import TEMPORARY, plain, sync_folder
from fedkim.store.shown import shown_as_stored
from fedkim.tasks import TASKS, Task

if TYPE_CHECKING:
    from fedkim.run.run import Run

ROUTE = "route.json"
"""Says in an export's folder what was exported, and that the folder is an export."""


def export_run(
    run: "Run",
    *,
    task: str,
    to: str | Path,
    modalities: tuple[str, ...] | None = None,
    merge: bool = False,
    force: bool = False,
) -> Path:
    """Write one task's model to the folder ``to`` and give that folder; ``docs/export.md`` lists what is in it.

    A route depends on the task and its modalities alone, so the mixture of experts is there one LoRA of rank P·r,
    exactly. The folder appears whole or not at all.

    Args:
        run: finished, with at least one expert.
        task: a registered task whose modalities the run's sites taught.
        to: absent or empty, neither below the run's folder nor where this process works.
        modalities: of the task's, those that will be given; all of them if None.
        merge: a dense model with tokenizer instead of a LoRA.
        force: replace an earlier export.

    Raises:
        FedkimError: an unknown task or modality, a run that isn't finished or has no experts, a result that lacks a part, a
            folder in use, merging into a quantised model, into a head that shares its weight or beside another adapter.
    """
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    result = _finished(run)
    stored = f"file {run.folder / 'result.json'}"
    if run.recipe.data.source == "hospital":
        with shown_as_stored(stored):
            result = suppressed_result(result)  # card and threshold leave with the model
    chosen = _modalities(run, TASKS[task], modalities)
    folder = Path(to)
    place = folder.resolve()
    _require_apart(run, folder, place)
    _require_free(folder, force)
    draft = place.with_name(f"{TEMPORARY}{os.getpid()}-{place.name}")
    try:
        draft.mkdir(parents=True)
        route = run.injector.route(task, chosen)
        _write_model(run, draft, task, chosen, merge)
        write_encoders(
            run.injector,
            draft / "encoders",
            task=task,
            modalities=chosen,
            shapes=run.shapes,
            settings=run.recipe.extraction,
        )
        about = _described(run, route, place.name, merge)
        with shown_as_stored(stored):
            card, told = model_card(result, about), _record(run, result, route, merge)
        (draft / "README.md").write_text(card, encoding="utf-8")
        record = {**told, "files": sorted([ROUTE, *_files(draft)])}
        (draft / ROUTE).write_text(json.dumps(plain(record), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        _put_in_place(draft, place)
    except (OSError, SafetensorError) as error:  # a full disk is either, depending on who writes
        found = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise FedkimError(f"folder {folder}", found=found) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return folder


# what may be exported ---------------------------------------------------------------------------------------------


def _finished(run: "Run") -> dict[str, Any]:
    rounds = run.recipe.federation.rounds
    result = run.result
    if run.damaged or result is None or run.committed.round < rounds:
        whole = "the last whole round is " if run.damaged else ""
        raise FedkimError(
            f"run {run.folder}",
            found=f"{whole}round {run.committed.round} of {rounds}" + ("" if result else " and no result"),
            expected="a finished run",
            remedy="run its recipe to the end: the same command resumes",
        )
    if not run.stands_for(result):
        raise FedkimError(
            f"run {run.folder}",
            found="a result of other weights than those of its last round",
            expected="scores and threshold of what is exported",
            remedy="run its recipe again, which scores it anew",
        )
    if run.recipe.injection.evidence != "none":
        raise FedkimError(
            f"run {run.folder}",
            found='injection.evidence = "decoder"',
            expected="prompts of modality segments alone, which an export can make",
            remedy="answer with `fedkim predict`",
        )
    if not run.recipe.m3oe.experts:
        raise FedkimError(
            f"run {run.folder}",
            found=f"no adapter (m3oe.experts = 0, method {run.recipe.method})",
            expected="at least one expert",
            remedy="export a run with experts",
        )
    return result


def _modalities(run: "Run", task: Task, wanted: tuple[str, ...] | None) -> tuple[str, ...]:
    """The task's modalities that were asked for, in prompt order."""
    if wanted is None:
        wanted = task.modalities
    for name in wanted:
        if name not in MODALITIES:
            raise unknown("modality", name, MODALITIES)
        if name not in task.modalities:
            raise FedkimError(
                f"task {task.name!r}", found=f"modality {name!r}", expected=f"some of: {', '.join(task.modalities)}"
            )
        if name in task.inputs and name not in run.shapes:
            raise FedkimError(f"modality {name!r}", found="no site of this run taught it")
    if not wanted:
        raise FedkimError(f"task {task.name!r}", found="no modality", expected=f"some of: {', '.join(task.modalities)}")
    return tuple(name for name in task.modalities if name in wanted)


def _require_apart(run: "Run", folder: Path, place: Path) -> None:
    """The finished export takes its folder's place: no run may lie around it, and no shell stand in it."""
    found = ""
    if place.is_relative_to(run.folder.resolve()):
        found = "a place in the run's own folder"
    elif Path.cwd().is_relative_to(place):
        found = "the folder that this command runs in"
    if found:
        raise FedkimError(
            f"target {folder}", found=found, expected="a folder of the export's own", remedy="choose another"
        )


def _require_free(folder: Path, force: bool) -> None:
    if folder.exists() and not folder.is_dir():
        raise FedkimError(f"target {folder}", found="a file", expected="a folder, absent or empty")
    if not folder.is_dir() or not any(folder.iterdir()):
        return
    if strangers := sorted(set(_files(folder)) - _of_an_export(folder)):
        raise FedkimError(
            f"target {folder}",
            found=f"files that are no export, such as {strangers[0]}",
            expected="a folder, absent or empty",
            remedy="choose another, or move these away (an export of an earlier version lists no files)",
        )
    if not force:
        raise FedkimError(
            f"target {folder}", found="an earlier export", remedy="choose another, or replace it with --force"
        )


def _files(folder: Path) -> list[str]:
    """Every file below a folder, and every link."""
    return [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]


def _of_an_export(folder: Path) -> set[str]:
    """The files that an export in this folder has written; none where there is no export."""
    try:
        return set(json.loads((folder / ROUTE).read_text(encoding="utf-8"))["files"])
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def _put_in_place(draft: Path, folder: Path) -> None:
    """Rename the finished draft into its place; what stood there moves aside first and is then deleted."""
    aside = folder.with_name(f"{TEMPORARY}{os.getpid()}-replaced-{folder.name}")
    present = folder.exists()
    if present:
        os.replace(folder, aside)
    try:
        os.replace(draft, folder)
    except BaseException:  # Ctrl-C too: the earlier export must not be lost
        if present:
            os.replace(aside, folder)
        raise
    sync_folder(folder.parent)
    shutil.rmtree(aside, ignore_errors=True)


# what is written --------------------------------------------------------------------------------------------------


def _write_model(run: "Run", folder: Path, task: str, modalities: tuple[str, ...], merge: bool) -> None:
    injector = run.injector
    injector.network.eval()
    model = injector.network.base_model
    with torch.no_grad():
        weights = injector.route_weights(task, modalities)
    if not merge:
        model.export_lora(folder, weights, base_model=_base_name(run))
        return
    with quiet_transformers(), model.merged(weights):
        model.export_dense(folder)
    injector.llm.tokenizer.save_pretrained(folder)


def _base_name(run: "Run") -> str:
    """The base model as others know it: of a folder on this machine only its own name."""
    name = run.recipe.llm.name
    return name if name in LLMS or not Path(name).is_dir() else Path(name).resolve().name


def _record(run: "Run", result: Mapping[str, Any], route: Route, merge: bool) -> dict[str, Any]:
    task, settings = TASKS[route.task], run.recipe.m3oe
    return {
        **route.to_json(),
        "question": task.question,
        "answers": task.answers,
        # tuned on answers to all of the task's inputs; fewer inputs give other scores
        "threshold": tuned_threshold(result if route.modalities == task.modalities else None, task),
        "experts": settings.experts,
        "rank": settings.rank,
        "merged": merge,
        "base_model": _base_name(run),
        "run_digest": result["train_info"]["digest"],
    }


def _described(run: "Run", route: Route, name: str, merge: bool) -> Exported:
    task, recipe, injector = TASKS[route.task], run.recipe, run.injector
    base = LLMS.get(recipe.llm.name)
    return Exported(
        name=name,
        task=task.name,
        question=task.question,
        answers=task.answers,
        modalities=route.modalities,
        all_modalities=route.modalities == task.modalities,
        seen=task.name in recipe.tasks.seen,
        merged=merge,
        weights=route.weights,
        entropy=route.entropy,
        rank=recipe.m3oe.experts * recipe.m3oe.rank,
        base=_base_name(run),
        base_origin=base.origin if base else "",
        base_licence=base.licence if base else "",
        dtype=str(injector.llm.dtype).removeprefix("torch."),
        trainers=recipe.federation.trainers,
        data=DATA_SETS.get(recipe.data.source, f"data source `{recipe.data.source}`"),
    )
