"""Cross-validation: a recipe once per fold, two processes side by side, then every patient's out-of-fold answer pooled."""

import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fedkim.data.registry import FOLDED
from fedkim.errors import FedkimError
from fedkim.evaluation.predictions import Predictions, Rows, pool
from fedkim.evaluation.scoring import score_rows
from fedkim.progress import Progress, Silent
from fedkim.recipe import Recipe, import_plugins
from fedkim.report import write_report
from fedkim.run.predictions_file import read_predictions
from fedkim.run.processes import Processes
from fedkim.run.scores import shuffled_over_patients
from fedkim.store.files import plain, pretty, write_text
from fedkim.store.run_folder import RunFolder


def run_folds(
    recipe: Recipe,
    folds: Sequence[int],
    *,
    out: Path,
    force: bool = False,
    reveal_test: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run ``recipe`` for each fold in ``out/fold-<k>`` (resuming what is there) and pool their predictions.

    ``run.workers`` processes run at once, each with one worker: separate processes share nothing, so they are the
    fastest use of the cores.

    Raises:
        FedkimError: a source without folds; a fold ended with an error (its own message stands above).
    """
    progress = progress or Silent()
    require_folds(recipe)
    if (out / "recipe.json").exists():
        raise FedkimError(
            f"folder {out}", found="a single run", expected="a folder for folds", remedy="choose another with --out"
        )
    if out.exists() and not out.is_dir():
        raise FedkimError(f"folder {out}", found="a file", expected="a folder for folds")
    out.mkdir(parents=True, exist_ok=True)
    write_text(out / "recipe.toml", recipe.to_toml())
    began = time.perf_counter()
    with progress.stage("folds", len(folds)) as stage, ThreadPoolExecutor(recipe.run.workers) as threads:
        processes = Processes()

        def one(fold: int, workers: int = 1) -> int:
            process = processes.start(_command(fold, out, workers=workers, force=force, reveal_test=reveal_test))
            status = process.wait() if process else 1
            stage.advance()
            return status

        try:
            # an odd fold out runs alone at the end and takes all workers: their number changes no bit
            odd = folds[-1:] if len(folds) % recipe.run.workers == 1 else []
            statuses = list(threads.map(one, folds[: len(folds) - len(odd)]))
            statuses += [one(fold, recipe.run.workers) for fold in odd]
        except BaseException:
            processes.stop()
            raise
    failed = [fold for fold, status in zip(folds, statuses) if status]
    if failed:
        raise FedkimError(
            f"fold {failed[0]}", found="it ended with an error", remedy="see its message; the others are kept"
        )
    result = pooled(recipe, folds, out)
    result["run_info"]["seconds_of_this_call"] = round(time.perf_counter() - began, 1)
    write_text(out / "result.json", pretty(plain(result)))
    write_report(result, out / "report.html")
    return result


def require_folds(recipe: Recipe) -> None:
    """Refuse folds of a source that has none: the same patients would be tested over and over, and count as others.

    Raises:
        FedkimError: names the sources that have.
    """
    import_plugins(recipe.run.plugins)
    if recipe.data.source not in FOLDED:
        raise FedkimError(
            "--folds",
            found=f"data source {recipe.data.source!r}, which has no folds",
            expected=f"one with folds: {', '.join(sorted(FOLDED))}",
            remedy="run it without --folds, with several values of run.seed",
        )


def pooled(recipe: Recipe, folds: Sequence[int], out: Path) -> dict[str, Any]:
    """One result from the folds' predictions: each sample scored by the fold in which its patient was tested."""
    parts: list[tuple[str, Rows]] = []
    results = []
    for fold in folds:
        folder = out / f"fold-{fold}"
        results.append(RunFolder(folder).result() or {})
        parts.append((f"fold-{fold}", read_predictions(folder / "predictions.json")))
    metrics = {}
    for task in (*recipe.tasks.seen, *recipe.tasks.unseen):
        rows = _pooled_rows(task, parts, recipe)
        if rows:
            metrics[task] = score_rows(
                rows, seen=task in recipe.tasks.seen, draws=recipe.evaluation.draws, seed=recipe.run.seed
            )
            metrics[task]["blindness"] = _mean_blindness(task, results)
            heads = {f"fold-{fold}": r["metrics"].get(task, {}).get("proxy") for fold, r in zip(folds, results)}
            if "proxy" in rows:
                metrics[task]["proxy"] = ", ".join(f"{fold}: {head}" for fold, head in heads.items() if head)
    infos = [result["run_info"] for result in results]
    return {
        "run_info": {
            **infos[0],
            "folds": list(folds),
            "config": recipe.to_toml(),
            "seconds": sum(info["seconds"] for info in infos),
            "seconds_by_fold": [info["seconds"] for info in infos],
            "peak_memory_bytes": max(info["peak_memory_bytes"] for info in infos),
            "test_revealed": max(info["test_revealed"] for info in infos),
        },
        "train_info": {
            "rounds": results[0]["train_info"]["rounds"],
            "digests": [result["train_info"]["digest"] for result in results],
        },
        "metrics": metrics,
        "routes": results[0]["routes"],
        "meta_info": results[0]["meta_info"],
    }


def _pooled_rows(task: str, parts: Sequence[tuple[str, Rows]], recipe: Recipe) -> dict[str, Predictions]:
    """The rows that every fold with this task has."""
    having = [(fold, rows[task]) for fold, rows in parts if rows.get(task)]
    if not having:
        return {}
    names = set.intersection(*(set(rows) for _, rows in having))
    ordered = [name for name in having[0][1] if name in names and name != "shuffled"]
    rows = {name: pool((fold, _distinct(fold, rows[name], name)) for fold, rows in having) for name in ordered}
    if "shuffled" in having[0][1] or recipe.evaluation.shuffled:
        # over the patients of all folds: within a fold one ECG record may be the whole test split
        shuffled = shuffled_over_patients(rows["injected"], recipe.run.seed)
        if shuffled is not None:
            rows["shuffled"] = shuffled
    return rows


def _distinct(fold: str, row: Predictions, name: str) -> Predictions:
    """A fold's row as it can be pooled.

    Development patients come back in other folds, so their samples are named with the fold. The proxy is another head in
    every fold, each with a scale of its own, so its scores are replaced by their ranks within the fold.
    """
    if row.split != "test":
        row = replace(row, samples=tuple(f"{fold}/{sample}" for sample in row.samples))
    if name == "proxy" and row.probabilities is not None and len(row):
        from scipy.stats import rankdata

        rank = (rankdata(row.scores) - 0.5) / len(row)
        row = replace(row, probabilities=np.stack([1 - rank, rank], axis=1))
    return row


def _mean_blindness(task: str, results: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Correlations within each fold, averaged: scores of different folds come from different models."""
    tables = [result["metrics"].get(task, {}).get("blindness", {}) for result in results]
    mean: dict[str, dict[str, Any]] = {}
    for seen in {name for table in tables for name in table}:
        entries = [table[seen] for table in tables if table.get(seen, {}).get("pearson") is not None]
        mean[seen] = {
            kind: sum(entry[kind] for entry in entries) / len(entries) if entries else None
            for kind in ("pearson", "spearman")
        } | {"n": sum(entry["n"] for entry in entries), "reason": "" if entries else "in no fold"}
    return dict(sorted(mean.items()))


def _command(fold: int, out: Path, *, workers: int, force: bool, reveal_test: bool) -> list[str]:
    command = [sys.executable, "-m", "fedkim", "run", str(out / "recipe.toml"), "--out", str(out / f"fold-{fold}")]
    command += ["--set", f"data.fold={fold}", "--set", f"run.workers={workers}"]
    return command + ["--force"] * force + ["--reveal-test"] * reveal_test
