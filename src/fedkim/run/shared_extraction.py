"""Extraction that no injection has touched yet, kept for runs that differ in injection alone: their sites do exactly the same.

    $FEDKIM_CACHE/extraction/<key>.safetensors      tensors "site-1/encoder.image.…"; updates' counts and losses as JSON beside them

That is the first round, every round before the injection begins, and all rounds where it leaves the encoders alone. Elsewhere
sites start from what the injection made of the encoders, and nothing can be shared.
"""

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from fedkim.aggregation import Rejection
from fedkim.data.cache import cache_folder
from fedkim.errors import FedkimError
from fedkim.federation import Exchange
from fedkim.run.same_data import contents_digest
from fedkim.run.world import World
from fedkim.state import State, Update, save_tensors
from fedkim.store.environment import environment
from fedkim.store.files import canonical, write_atomically

_log = logging.getLogger(__name__)

_TABLES = ("data", "tasks", "federation", "extraction")
"""What a site's round depends on, beside its number, the state it starts from, the seed, the code and the threads."""


def shared_extraction(exchange: Exchange, world: World) -> Exchange:
    """``exchange``, but updates that no injection has touched come from the cache where an equal run has left them."""
    injection = world.recipe.injection
    untouched = world.recipe.federation.rounds if not injection.train_encoders else injection.first_round
    holdings = {site: contents_digest(shard) for site, shard in world.sites.items()}

    def shared(round: int, state: State) -> Iterable[Update | Rejection]:
        if round > untouched:
            yield from exchange(round, state)
            return
        path = cache_folder() / "extraction" / f"{_key(world, round, state, holdings)}.safetensors"
        kept = _read(path)
        if kept is not None:
            yield from kept
            return
        given = list(exchange(round, state))
        updates = [update for update in given if isinstance(update, Update)]
        if len(updates) == len(given):  # a site that failed may not fail again
            try:
                _write(path, updates)
            except FedkimError as error:  # equal runs will do it again; this one has lost nothing
                _log.warning("%s", error)
        yield from given

    return shared


def _key(world: World, round: int, state: State, holdings: Mapping[str, str]) -> str:
    tables = world.recipe.to_dict()
    facts = {name: tables[name] for name in _TABLES} | {
        "round": round,
        "seed": world.recipe.run.seed,
        "environment": environment(world.recipe.run.plugins, threads=torch.get_num_threads()),
        "state": state.digest(),
        "holdings": holdings,
    }
    return hashlib.sha256(canonical(facts).encode()).hexdigest()


def _write(path: Path, updates: Iterable[Update]) -> None:
    tensors: dict[str, torch.Tensor] = {}
    facts: dict[str, Any] = {}
    for update in updates:
        tensors |= {f"{update.site}/{name}": tensor for name, tensor in update.state.items()}
        facts[update.site] = {
            "round": update.round,
            "base_digest": update.base_digest,
            "digest": update.state.digest(),
            "num_examples": dict(update.num_examples),
            "metrics": dict(update.metrics),
        }
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    write_atomically(path, lambda draft: save_tensors(tensors, draft, metadata={"updates": json.dumps(facts)}))


def _read(path: Path) -> list[Update] | None:
    """The kept updates in site order; None where there are none, or where the file is damaged: then they are made again."""
    if not path.exists():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            facts: dict[str, Any] = json.loads(file.metadata()["updates"])
            parts: dict[str, dict[str, torch.Tensor]] = {site: {} for site in facts}
            for key in list(file.keys()):
                site, name = key.split("/", 1)
                parts[site][name] = file.get_tensor(key)
        states = {site: State(tensors) for site, tensors in parts.items()}
        if any(facts[site].pop("digest") != state.digest() for site, state in states.items()):
            return None  # a bit that flipped is a tensor like any other to the reader
        return [Update(site=site, state=state, **facts[site]) for site, state in states.items()]
    except (SafetensorError, FedkimError, OSError, KeyError, TypeError, ValueError):
        return None
