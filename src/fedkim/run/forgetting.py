"""Forgetting of a finished run: its model read back and asked what the base model could do before."""

from pathlib import Path
from typing import Any

from fedkim.data.sources import pack, pubmedqa
from fedkim.evaluation.forgetting import forgetting
from fedkim.progress import Progress
from fedkim.run.run import Run
from fedkim.run.server import workers_of
from fedkim.store.files import plain, pretty, write_text


def measure_forgetting(
    folder: Path, *, root: str = "", questions: int = 0, texts: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """Measure a run's forgetting and write ``forgetting.json`` into its folder.

    Args:
        folder: the run's.
        root: folder of the real-data pack that holds PubMedQA; empty: ``FEDKIM_DATA_PACK``.
        questions: at most so many test questions; 0: all 500.
        texts: at most so many abstracts; 0: all 500.
        progress: told of each part.

    Raises:
        FedkimError: no run there, no pack, no PubMedQA in it.
    """
    run = Run(folder)
    found = forgetting(
        run.injector,
        pubmedqa.load(pack.find_root(root)),
        questions=questions,
        texts=texts,
        draws=run.recipe.evaluation.draws,
        seed=run.recipe.run.seed,
        workers=workers_of(run.recipe, run.injector.llm.device),
        progress=progress,
    )
    record = {
        "run": run.recipe.run.name,
        "method": run.recipe.method,
        "llm": run.recipe.llm.name,
        "seed": run.recipe.run.seed,
        **found,
    }
    write_text(folder / "forgetting.json", pretty(plain(record)))
    return record
