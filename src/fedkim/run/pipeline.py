"""A run from recipe to result: rounds, reference rows, scores, files."""

import gc
import resource
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError
from fedkim.federation import Round
from fedkim.injection import Injector
from fedkim.injection.route import summary
from fedkim.progress import Progress, Silent
from fedkim.recipe import Recipe
from fedkim.run.rounds import Rounds
from fedkim.run.scores import Scorer
from fedkim.run.server import load_language_model, make_injector, make_trainer, set_threads
from fedkim.run.world import World, build_world
from fedkim.state import State
from fedkim.store import RunStore, environment


def federate(recipe: Recipe, *, out: str | Path | None = None, force: bool = False) -> Iterator[Round]:
    """Run a recipe's rounds and yield each as it ends; with ``out`` they are committed there and resumed from there."""
    set_threads(recipe)
    world = build_world(recipe)
    llm = load_language_model(recipe)
    injector = make_injector(world, llm)
    trainer = make_trainer(world, injector)
    if out is None:
        yield from Rounds(world, injector, trainer, store=None, progress=Silent())
        return
    chosen = environment(device=str(llm.device), dtype=_dtype(injector))
    with RunStore.open(out, recipe, force=force, environment=chosen) as store:
        yield from Rounds(world, injector, trainer, store=store, progress=Silent())


def run_recipe(
    recipe: Recipe,
    *,
    out: Path,
    force: bool = False,
    reveal_test: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Run a recipe (or resume its run), score it, write ``result.json`` and ``report.html`` and give the result.

    A complete run is not repeated: its stored result comes back.

    Raises:
        FedkimError: see the parts; nothing half-written stays.
    """
    progress = progress or Silent()
    began = time.perf_counter()
    set_threads(recipe)
    reveal = reveal_test or recipe.evaluation.reveal_test
    progress.line(f"run {recipe.run.name}: method {recipe.method}, {recipe.llm.name}, data {recipe.data.source}")
    with RunStore.open(out, recipe, force=force) as store:
        stored = store.result()
        if stored and stored["run_info"]["split"] == ("test" if reveal else "development"):
            return stored
        world = build_world(recipe)
        seconds = {"data": _since(began)}
        llm = load_language_model(recipe)
        injector = make_injector(world, llm)
        trainer = make_trainer(world, injector)
        chosen = environment(device=str(llm.device), dtype=_dtype(injector))
        store.use_environment(chosen)
        seconds["language model"] = _since(began) - seconds["data"]
        mark = time.perf_counter()
        rounds = Rounds(world, injector, trainer, store=store, progress=progress)
        for _ in rounds:
            pass
        seconds["rounds"] = _since(mark)
        mark = time.perf_counter()
        workers = trainer.workers
        for parameter in trainer.parameters:
            trainer.optimizer.state.pop(parameter, None)  # its moments are as large as the adapter, twice
        scorer = Scorer(world, split="test" if reveal else "development", workers=workers, progress=progress)
        scorer.small_models(rounds.aggregated, rounds.state)
        scorer.injected(injector)
        if recipe.evaluation.shuffled:
            scorer.shuffled(injector)
        seconds["answers"] = _since(mark)
        mark = time.perf_counter()
        digest = rounds.digest()
        routes = summary({name: injector.route(name) for name in world.tasks}) if injector.experts else {}
        if recipe.evaluation.blind:
            del injector, trainer, llm
            rounds.injector = rounds.trainer = None  # type: ignore[assignment]
            gc.collect()
            scorer.blind(_train_blind(world, progress))
        seconds["blind"] = _since(mark)
        mark = time.perf_counter()
        metrics = scorer.metrics()
        seconds["statistics"] = _since(mark)
        uses = int((stored or {}).get("run_info", {}).get("test_revealed", 0)) + int(reveal)
        result: dict[str, Any] = {
            "run_info": {
                "recipe": recipe.run.name,
                "method": recipe.method,
                "backbone": recipe.federation.algorithm,
                "config": recipe.to_toml(),
                "seed": recipe.run.seed,
                "llm": recipe.llm.name,
                "split": "test" if reveal else "development",
                "test_revealed": uses,
                "seconds": round(_since(began), 1),
                "seconds_by_part": {name: round(value, 1) for name, value in seconds.items()},
                "peak_memory_bytes": peak_memory_bytes(),
                "environment": chosen,
                "versions": _versions(),
            },
            "train_info": {"rounds": rounds.history, "digest": digest},
            "metrics": metrics,
            "routes": routes,
            "meta_info": {
                "synthetic": world.data.synthetic,
                "data": world.data.name,
                "created": time.strftime("%Y-%m-%d", time.gmtime()),
                "sites": {site: _holdings(world, site) for site in world.sites},
            },
        }
        store.write_result(result)
        store.event("scored", seconds=result["run_info"]["seconds"], split=result["run_info"]["split"])
        result = store.result() or result
        _report(result, Path(out) / "report.html")
    return result


def _train_blind(world: World, progress: Progress) -> Injector:
    """The blind reference: the same steps on the same questions and answers, with no modality segment."""
    llm = load_language_model(world.recipe)
    injector = make_injector(world, llm, blind=True)
    if not injector.experts:
        return injector  # FedPlug without its segments has nothing to train: it is the base model
    trainer = make_trainer(world, injector)
    rounds = world.recipe.federation.rounds
    with progress.stage("blind reference", rounds * trainer.steps_per_round) as stage:
        for number in range(1, rounds + 1):
            trainer.fit(State(), round=number, on_step=lambda step, loss: stage.advance(loss=loss))
    return injector


def _holdings(world: World, site: str) -> dict[str, Any]:
    """What a site holds, as counts."""
    shard = world.sites[site]
    return {
        "patients": len({sample.patient for sample in shard}),
        "samples": len(shard),
        "components": list(world.owned[site]),
    }


def _report(result: Mapping[str, Any], path: Path) -> None:
    from fedkim.report import write_report

    write_report(dict(result), path)


def _dtype(injector: Injector) -> str:
    return str(injector.llm.dtype).removeprefix("torch.")


def _since(began: float) -> float:
    return time.perf_counter() - began


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far (Linux counts it in KiB)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    versions = {}
    for package in ("fedkim", "torch", "transformers", "peft", "numpy"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "unknown"
    return versions


def check_complete(result: Mapping[str, Any]) -> None:
    """Refuse a result that another version wrote."""
    for key in ("run_info", "train_info", "metrics"):
        if key not in result:
            raise FedkimError("stored result", found=f"no {key}", remedy="run the recipe again with --force")
