"""The comparison of a matrix's results: one HTML page, the same as Markdown, its figures as SVG files, and its scores in CSV."""

import contextlib
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from markupsafe import Markup

from fedkim.errors import FedkimError
from fedkim.experiments.choice_table import choice_tables
from fedkim.experiments.claims import Decided, decide
from fedkim.experiments.figures import all_figures, standalone
from fedkim.experiments.keeping import read_kept
from fedkim.experiments.our_tables import forgetting_tables
from fedkim.experiments.paper_tables import summary
from fedkim.experiments.reading import reading_tables
from fedkim.experiments.score_rows import scores_csv
from fedkim.experiments.scores import CELLS, Scores, processor, read_scores
from fedkim.experiments.table import Table
from fedkim.experiments.tables import all_tables
from fedkim.report import wording
from fedkim.report.template import filled
from fedkim.store.files import make_folder, write_text

_HERE = Path(__file__).parent
_MARKER = re.compile(r"^(<!-- /?results:\S+ -->)[ \t]*$", re.MULTILINE)


def write_comparison(results: Path, out: Path, *, into: Path | None = None) -> list[Path]:
    """Write ``compare.html``, ``compare.md``, ``scores.csv`` and the figures into ``out`` and give their paths.

    Args:
        results: ``results/<matrix>``.
        out: folder of the files.
        into: a Markdown file with a block ``<!-- results:<matrix> --> … <!-- /results:<matrix> -->`` for the tables, one
            ``results:<matrix>:summary`` for a row per method, or both; what stands in them is replaced. So are the figures
            that it shows as ``figures/<matrix>-<figure>.svg``.

    Raises:
        FedkimError: see :func:`fedkim.experiments.scores.read_scores`; ``into`` has neither block.
    """
    scores = read_scores(results)
    decided = decide(scores)
    tables, figures = tables_of(results, scores, decided), all_figures(scores, decided)
    document = _with_blocks(into, scores, markdown(scores, decided, tables)) if into is not None else None
    if out.exists() and not out.is_dir():
        raise FedkimError(f"--out {out}", found="a file", expected="a folder")
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for name, text in (
        ("compare.html", page(scores, tables, figures)),
        ("compare.md", markdown(scores, decided, tables)),
        ("scores.csv", scores_csv(scores)),
        *((f"{name}.svg", standalone(figure)) for name, (_, figure) in figures.items()),
    ):
        write_text(out / name, text)
        written.append(out / name)
    if document is not None and into is not None:
        mode = into.stat().st_mode
        write_text(into.resolve(), document)
        into.chmod(mode)
        written.append(into)
        for path, name in shown_figures(into, scores.name, figures).items():
            make_folder(path.parent)
            write_text(path, standalone(figures[name][1]))
            written.append(path)
    return written


def shown_figures(document: Path, matrix: str, names: Iterable[str]) -> dict[Path, str]:
    """The files of a matrix's figures that a document shows, and the figures' names."""
    text = _text(document)
    links = {name: f"figures/{matrix}-{name}.svg" for name in names}
    return {document.parent / link: name for name, link in links.items() if f"({link})" in text}


def matrices_in(folder: Path) -> list[Path]:
    """``results/<matrix>`` itself, or of a folder such as ``results`` every matrix in it that has a cell."""
    if not folder.is_dir() or _has_cells(folder):
        return [folder]
    inside = [one for one in sorted(folder.iterdir()) if one.is_dir() and _has_cells(one)]
    return inside or [folder]  # reading it says what is wrong


def _has_cells(folder: Path) -> bool:
    for path in sorted(folder.glob(CELLS)):
        with contextlib.suppress(FedkimError):  # a run's result, or a damaged cell, which reading all of them tells
            read_kept(path)
            return True
    return False


def has_block(document: Path, name: str) -> bool:
    """Whether a document shows a matrix."""
    text = _text(document) if document.is_file() else ""
    return any(f"<!-- results:{name}{part} -->" in text for part in ("", ":summary"))


def tables_of(results: Path, scores: Scores, decided: list[Decided]) -> list[Table]:
    """Every table of a folder of results: of its cells, of their choice, of what was forgotten."""
    return [
        *all_tables(scores, decided),
        *reading_tables(results, scores),
        *choice_tables(results),
        *forgetting_tables(results),
    ]


def block(text: str, name: str) -> tuple[str, str, str]:
    """What stands before, inside and after a document's block of results.

    Raises:
        FedkimError: no such block or several, no end, or another block's marker inside. Markers are whole lines.
    """
    begin, end = f"<!-- results:{name} -->", f"<!-- /results:{name} -->"
    markers = list(_MARKER.finditer(text))  # whole lines: a sentence may name one
    first, last = ([mark for mark in markers if mark[1] == marker] for marker in (begin, end))
    if (len(first), len(last)) != (1, 1):
        found = f"{len(first)} beginnings and {len(last)} ends" if first or last else "none"
    elif markers.index(last[0]) != markers.index(first[0]) + 1:
        found = "another marker before its end"
    else:
        return text[: first[0].end() + 1], text[first[0].end() + 1 : last[0].start()], text[last[0].start() :]
    raise FedkimError(
        f"block of results {name!r}", found=found, expected=f"one {begin} and later one {end}, a line each"
    )


def summary_block(scores: Scores) -> str:
    """The block of a row per method."""
    return f"{summary(scores).markdown()}\n{source(scores)}\n"


def _text(document: Path) -> str:
    try:
        return document.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        found = getattr(error, "strerror", None) or "no text in UTF-8"
        raise FedkimError(f"document {document}", found=found, expected="a Markdown file with blocks") from None


def _with_blocks(document: Path, scores: Scores, tables: str) -> str:
    """The document with the content of its blocks replaced."""
    text = _text(document)
    short = f"{scores.name}:summary"
    if has_short := f"<!-- results:{short} -->" in text:
        before, _, after = block(text, short)
        text = f"{before}\n{summary_block(scores)}\n{after}"
    if not has_short or f"<!-- results:{scores.name} -->" in text:
        before, _, after = block(text, scores.name)
        text = f"{before}\n{tables}\n{after}"
    return text.replace("\n", "\r\n") if b"\r\n" in document.read_bytes() else text


def markdown(scores: Scores, decided: list[Decided], tables: list[Table] | None = None) -> str:
    """The tables as Markdown, headed by where they come from."""
    tables = all_tables(scores, decided) if tables is None else tables
    head = [source(scores)]
    if scores.synthetic:
        head.append(f"**{wording.SYNTHETIC}**")
    return "\n\n".join([*head, *(table.markdown().strip() for table in tables)]) + "\n"


def source(scores: Scores) -> str:
    """Cells, seeds, language model and machine of these results, in a line."""
    infos = [cell.record["run_info"] for cell in scores.cells]
    seeds = sorted({cell.seed for cell in scores.cells})
    hours = sum(info.get("processor_seconds", 0.0) for info in infos) / 3600
    models = ", ".join(sorted({str(info["llm"]) for info in infos}))
    splits = " and ".join(sorted({str(info["split"]) for info in infos}))
    made = {tuple(info.get("environment", {}).get(key) for key in ("code", "dtype", "torch")) for info in infos}
    versions = "one build" if len(made) == 1 else f"{len(made)} builds"
    processors = Counter(processor(info) for info in infos)
    if len(processors) > 1:
        versions += f" on {len(processors)} kinds of processor ({', '.join(f'{name} {n}' for name, n in processors.most_common())})"
    seeds_named = f"seed{'s'[: len(seeds) != 1]} {', '.join(map(str, seeds))}"
    spread = "; ± is half of a 95 % t-interval over seeds" if len(seeds) > 1 else ""
    return (
        f"*{len(infos)} cells of `{scores.name}`, {seeds_named}, {models}, {splits} split, "
        f"{versions}, {hours:.1f} processor hours. Points are hundredths{spread}.*"
    )


def page(scores: Scores, tables: list[Table], figures: dict[str, tuple[str, Markup]]) -> str:
    """The page as text; it refers to nothing outside itself."""
    return filled(
        "comparison.html.j2",
        _HERE,
        title=scores.name,
        source=source(scores).strip("*"),
        synthetic=wording.SYNTHETIC if scores.synthetic else "",
        tables=tables,
        figures=figures,
        not_a_device=wording.NOT_A_DEVICE,
    )
