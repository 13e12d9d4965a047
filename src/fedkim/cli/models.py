"""Verbs that use a run's model: ask it about one patient, give one task of it away."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from fedkim.cli.options import AsJson
from fedkim.errors import FedkimError, unknown
from fedkim.report.wording import NOT_A_DEVICE

if TYPE_CHECKING:
    from fedkim.run import Answer
    from fedkim.tasks import Task


def predict(
    run: Path,
    /,
    *,
    task: str,
    image: Path | None = None,
    signal: Path | None = None,
    start: float = 0.0,
    leads: str | None = None,
    table: Path | None = None,
    stay: str | None = None,
    until_hour: float | None = None,
    units: str | None = None,
    question: str | None = None,
    as_json: AsJson = False,
) -> None:
    """Ask a run's model one question about one patient's files, with the preprocessing of the training.

    Args:
        run: The run's folder.
        task: What to ask; fedkim tasks lists them.
        image: An image file (PNG, JPEG, TIFF or DICOM, told by its content).
        signal: An ECG: a WFDB record, or a .csv with a column a lead (headers such as "II [mV]") and a column time.
        start: Where the ten seconds of the record begin, in seconds.
        leads: The record's leads in the order of the training, separated by commas, where these aren't the standard twelve.
        table: An ICU table (.csv or .parquet): hourly, or a measurement a row.
        stay: Which stay of the table.
        until_hour: Use the 24 hours before this one; the first day if not given.
        units: The table's units where its headers carry none: yaib.
        question: The question, for tasks without a fixed one.
        as_json: Print JSON.
    """
    import fedkim
    from fedkim.tasks import TASKS

    opened = fedkim.load(run)
    if task not in TASKS:
        raise unknown("task", task, TASKS)
    if TASKS[task].answers is None and not question:
        raise FedkimError(f"task {task!r}", found="no question", remedy="put it with --question")
    files = _files(TASKS[task], {"image": image, "signal": signal, "table": table})
    named = tuple(name.strip() for name in leads.split(",")) if leads is not None else ()
    answer = opened.answer(
        task=task, question=question, units=units, stay=stay, until_hour=until_hour, start=start, leads=named, **files
    )
    print(_answer_json(task, answer) if as_json else _answer_text(task, answer))


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
    import fedkim

    names = tuple(name.strip() for name in modalities.split(",")) if modalities is not None else None
    print(fedkim.load(run).export(task=task, to=to, modalities=names, merge=merge, force=force))


def _files(task: "Task", options: Mapping[str, Path | None]) -> dict[str, Path]:
    """By modality of the task, the file that its option names; an ICU table serves every group."""
    of = {modality: modality if modality in options else "table" for modality in task.inputs}
    for option, path in options.items():
        if path is not None and option not in of.values():
            wanted = ", ".join(f"--{name}" for name in dict.fromkeys(of.values())) or "no file"
            raise FedkimError(f"task {task.name!r}", found=f"--{option}", expected=wanted)
    files = {}
    for modality, option in of.items():
        path = options[option]
        if path is None:
            raise FedkimError(f"modality {modality!r}", found="nothing", remedy=f"give it with --{option}")
        files[modality] = path
    return files


def _answer_json(task: str, answer: "Answer") -> str:
    record = {
        "task": task,
        "text": answer.text,
        "probabilities": dict(answer.probabilities),
        "threshold": dict(answer.threshold),
        "route": answer.route.to_json(),
        "warnings": list(answer.warnings),
        "notice": NOT_A_DEVICE,
    }
    return json.dumps(record, indent=1, ensure_ascii=False)


def _answer_text(task: str, answer: "Answer") -> str:
    lines = [f"{task}: {answer.text}"]
    lines += [f"  probability of {word}: {probability:.4f}" for word, probability in answer.probabilities.items()]
    if answer.threshold:
        lines.append(f"  threshold: {answer.threshold['value']:.3f} ({answer.threshold['source']})")
    lines += [f"  note: {warning}" for warning in answer.warnings]
    return "\n".join([*lines, NOT_A_DEVICE])
