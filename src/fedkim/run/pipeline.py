"""A run from recipe to result: rounds, reference rows, scores, files."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError
from fedkim.federation import Round
from fedkim.injection import InjectionTrainer, Injector
from fedkim.injection.loading import choose_device, choose_dtype, folder_identity
from fedkim.m3oe import routes_record
from fedkim.progress import Progress, Silent
from fedkim.recipe import Recipe, import_plugins, plugin_digests
from fedkim.report import write_report
from fedkim.run.network import Network
from fedkim.run.predictions_file import write_predictions
from fedkim.run.result import Clock, describe_run, disclosed, holdings
from fedkim.run.rounds import Rounds
from fedkim.run.same_data import require_same_data
from fedkim.run.scores import Scorer
from fedkim.run.server import load_language_model, make_injector, make_trainer, set_threads
from fedkim.run.trained import elsewhere, refuse_trained, remember_trained
from fedkim.run.world import World, build_world, load_data
from fedkim.state import State
from fedkim.store.declared import recall_declared, remember_declared
from fedkim.store.environment import environment, require_same_model, require_same_plugins
from fedkim.store.files import plain
from fedkim.store.run_store import RunStore


def federate(recipe: Recipe, *, out: str | Path | None = None, force: bool = False) -> Iterator[Round]:
    """Run a recipe's rounds and yield each as it ends; with ``out`` they are committed there and resumed from there."""
    if out is None:
        yield from Rounds(*load_parts(recipe), store=None, progress=Silent())
        return
    with RunStore.open(out, recipe, force=force) as store:
        yield from _begun_or_resumed(store, recipe, progress=Silent())


def run_recipe(
    recipe: Recipe,
    *,
    out: Path,
    force: bool = False,
    reveal_test: bool = False,
    progress: Progress | None = None,
    network: Network | None = None,
) -> dict[str, Any]:
    """Run a recipe (or resume its run), score it, write ``result.json`` and ``report.html`` and give the result.

    A complete run is not repeated: its stored result comes back, if the data are those that it was made of. With ``network``
    the sites are elsewhere.

    Raises:
        FedkimError: see the parts; nothing half-written stays.
    """
    progress = progress or Silent()
    split = recipe.evaluation.split(reveal_test)
    with RunStore.open(out, recipe, force=force) as store:
        stored = store.result()
        if stored and stored["run_info"]["split"] == split and store.stands_for(stored):
            import_plugins(recipe.run.plugins)
            made, remedy = stored["run_info"]["environment"], "run it anew with --force, or undo the change"
            what, own = f"result of {store.folder}", plugin_digests(recipe.run.plugins)
            require_same_plugins(made.get("plugins", {}), own, what, remedy)
            require_same_model(made, folder_identity(recipe.llm.name), what, remedy)
            if not network and (recipe.data.source == "hospital" or not recipe.same_folders(store.recipe())):
                require_same_data(store.folder, load_data(recipe))
            if not store.is_reported():
                write_report(stored, store.folder / "report.html")
            return stored
        progress.line(f"run {recipe.run.name}: {recipe.method} into {recipe.llm.name}, data {recipe.data.source}")
        clock = Clock()
        rounds = _begun_or_resumed(store, recipe, progress=progress, network=network)
        clock.lap("data and language model")
        for _ in rounds:
            pass
        refuse_uninjected(out, recipe, rounds.history)
        clock.lap("rounds")
        return _score(rounds, store, split=split, clock=clock, progress=progress)


def score_again(folder: Path, *, data: str | Path | None, reveal_test: bool, progress: Progress) -> dict[str, Any]:
    """Score a run's newest round anew: on its own data (the stored result is replaced), or on data in another folder.

    The scores of a run that stopped early are given but not stored: a stored result says that the run is complete.

    Raises:
        FedkimError: no committed round or none that was injected, another process at work in the folder.
    """
    recipe = RunStore(folder).recipe()
    split = recipe.evaluation.split(reveal_test)
    if data is not None:
        recipe = replace(recipe, data=elsewhere(recipe.data, str(data)))
    with RunStore.open(folder, recipe) as store:
        clock = Clock()

        def check(scored: Dataset) -> None:
            if data is None:
                require_same_data(folder, scored)
            else:
                refuse_trained(folder, scored, split)

        rounds = _rounds(store, recipe, check, progress=progress)
        if not rounds.done:
            raise FedkimError(
                f"run {folder}", found="no committed round", expected="at least one", remedy="run its recipe first"
            )
        refuse_uninjected(folder, recipe, rounds.history)
        keep = data is None and rounds.done == recipe.federation.rounds
        return _score(rounds, store, split=split, clock=clock, progress=progress, keep=keep)


def refuse_uninjected(folder: Path, recipe: Recipe, history: Sequence[Mapping[str, Any]]) -> None:
    """Refuse a run of which no round was injected, for it stopped before or skipped them: its language model has learned nothing."""
    if any(entry["injection"] for entry in history):
        return
    skipped = sum(bool(entry.get("skipped")) for entry in history)
    whole = len(history) == recipe.federation.rounds
    raise FedkimError(
        f"run {folder}",
        found=f"{len(history)} committed rounds, {skipped} of them skipped, and an injection from round {recipe.injection.first_round} on",
        expected="at least one injected round",
        remedy="mend the sites and begin anew with --force" if whole else "resume the run",
    )


def _begun_or_resumed(store: RunStore, recipe: Recipe, *, progress: Progress, network: Network | None = None) -> Rounds:
    """The rounds of a run that trains: its folder remembers its sites, its data and who it learns from.

    Raises:
        FedkimError: simulated sites where hospitals were asked, other data than it began with, see :func:`load_parts`.
    """
    if network:
        remember_declared(store.folder, network.declared)
    elif recall_declared(store.folder):
        raise FedkimError(
            f"run {store.folder}",
            found="a federation over a network",
            expected="simulated sites",
            remedy="`fedkim coordinator start` resumes it, --force begins anew",
        )

    def check(data: Dataset) -> None:
        require_same_data(store.folder, data)
        remember_trained(store.folder, data, recipe.data.source)

    return _rounds(store, recipe, check, progress=progress, network=network)


def _rounds(
    store: RunStore,
    recipe: Recipe,
    check: Callable[[Dataset], None],
    *,
    progress: Progress,
    network: Network | None = None,
) -> Rounds:
    """The rounds of a run whose data pass a check, brought to where its folder has come.

    Nobody else holds the models, so that the rounds can let go of them.
    """
    world, injector, trainer = load_parts(recipe, recall_declared(store.folder))
    check(world.data)
    store.use_environment(environment_of(injector, recipe))
    exchange = network.exchange if network else None
    return Rounds(world, injector, trainer, store=store, progress=progress, exchange=exchange)


def load_parts(
    recipe: Recipe, declared: Mapping[str, Mapping[str, int]] | None = None
) -> tuple[World, Injector, InjectionTrainer]:
    """Data, language model, injector and trainer of a recipe, before the first round; no site's data if it is ``declared``
    what sites elsewhere hold.
    """
    set_threads(recipe)
    import_plugins(recipe.run.plugins)  # before either of the two that may need them
    with ThreadPoolExecutor(
        1
    ) as beside:  # converting or reading the model and rendering or decoding data: two cores' work
        llm = beside.submit(load_language_model, recipe)
        if choose_dtype(recipe.run.dtype, choose_device(recipe.run.device)) != torch.float32:
            llm.result()  # transformers makes the model's type the whole process's default while it loads
        world = build_world(recipe, declared=declared)
        injector = make_injector(world, llm.result())
    return world, injector, make_trainer(world, injector)


def environment_of(injector: Injector, recipe: Recipe) -> dict[str, Any]:
    """What decides the last bits of a recipe's run with this injector, and which weights and tokenizer its language model has."""
    llm, dtype = injector.llm, str(injector.llm.dtype).removeprefix("torch.")
    return environment(recipe.run.plugins, device=llm.device.type, dtype=dtype, **llm.identity)


def _score(
    rounds: Rounds,
    store: RunStore,
    *,
    split: str,
    clock: Clock,
    progress: Progress,
    keep: bool = True,
) -> dict[str, Any]:
    """All rows on one split, the result of them, and its files."""
    world, injector, trainer = rounds.world, rounds.injector, rounds.trainer
    recipe, digest = world.recipe, rounds.digest()
    revealed = store.count_reveal() if split == "test" else store.revealed()
    trainer.optimizer.forget()  # its moments are as large as the adapter, twice
    scorer = Scorer(world, split=split, workers=trainer.workers, progress=progress)
    scorer.small_models(rounds.aggregated, rounds.state)
    scorer.injected(injector)
    scorer.base(injector)
    scorer.simple()
    if recipe.evaluation.shuffled:
        scorer.shuffled()
    clock.lap("answers")
    chosen = environment_of(injector, recipe)
    seen, unseen = ([injector.route(task.name) for task in tasks] for tasks in (world.seen, world.unseen))
    routes = routes_record(seen, unseen) if injector.experts else {}
    if recipe.evaluation.blind:
        rounds.release()
        del injector, trainer
        gc.collect()  # the blind reference brings a language model of its own
        injected = [entry["round"] for entry in rounds.history if entry["injection"]]
        scorer.blind(_train_blind(world, injected, progress))
        clock.lap("blind reference")
    result: dict[str, Any] = {
        "run_info": describe_run(recipe, split=split, revealed=revealed, environment=chosen),
        "train_info": {"rounds": rounds.history, "digest": digest},
        "metrics": scorer.metrics(),
        "routes": routes,
        "meta_info": {
            "synthetic": world.data.synthetic,
            "data": world.data.name,
            **({} if world.sites else {"network": True}),
            "created": time.strftime("%Y-%m-%d", time.gmtime()),
            "sites": {site: holdings(world, site) for site in world.owned},
            "statistics": disclosed(world),
        },
    }
    clock.lap("statistics")
    if rounds.earlier_seconds:
        clock.laps["rounds before resuming"] = round(rounds.earlier_seconds, 1)
    seconds = round(clock.total() + rounds.earlier_seconds, 1)
    result["run_info"] |= {"seconds": seconds, "seconds_by_part": clock.laps}
    store.event("scored", seconds=clock.total(), split=split)
    if not keep:
        return plain(result)
    keep_ids = recipe.data.source != "hospital"
    store.write_result(result, lambda path: write_predictions(path, scorer.rows, keep_ids=keep_ids))
    result = store.result() or result
    write_report(result, store.folder / "report.html")
    return result


def _train_blind(world: World, injected: Sequence[int], progress: Progress) -> Injector:
    """The blind reference: the same steps on the same questions, with no modality segment; its answers are the public labels.

    ``injected`` are the rounds that had an injection.

    Also where decoders teach the injected model: without the patient there is nothing that a decoder could answer to.
    """
    injector = make_injector(world, load_language_model(world.recipe), blind=True)
    if not injector.experts:
        return injector  # FedPlug without its segments has nothing to train: it is the base model
    trainer = make_trainer(world, injector)
    with progress.stage("blind reference", trainer.total_steps) as stage:
        for number in injected:
            trainer.fit(State(), round=number, on_step=lambda report: stage.advance(loss=report.losses[-1]))
    trainer.optimizer.forget()
    return injector
