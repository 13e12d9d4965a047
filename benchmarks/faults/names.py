"""Names from outside that would like to be paths: none may lead out of the run's folder."""

import contextlib
import json
import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file

from fedkim.aggregation import gate
from fedkim.errors import FedkimError
from fedkim.recipe import Recipe, from_dict
from fedkim.state import State, Update
from fedkim.store.files import canonical, file_digest, text_digest
from fedkim.store.run_store import RunStore

STEMS = (
    "outside",
    "outside/x",
    "x",
    "etc/passwd",
    ".ssh/authorized_keys",
    "rounds/round-0001.json",
    "a b",
    "é",
    "..hidden",
    "x" * 300,
    "con",
)
SHAPES = (
    "../{}",
    "../../{}",
    "/{}",
    "//{}",
    "./{}",
    "a/../../{}",
    "..\\{}",
    "C:\\{}",
    "{}\0",
    "{}\n",
    "~/{}",
    "file:///{}",
    "%2e%2e/{}",
    "..%2f{}",
    "{}/..",
    "..",
    ".",
    "",
    "-{}",
    "$(touch {})",
    "`touch {}`",
    "{}\u202egnp",
    "\uff0e\uff0e/{}",
)
NAMES = tuple(dict.fromkeys(shape.format(stem) for stem in STEMS for shape in SHAPES))[:200]


def confined() -> int:
    """How many names, used as run name, site, tensor and file of a manifest, touched nothing outside the run's folder."""
    return sum(stays_inside(name) for name in NAMES)


def stays_inside(name: str) -> bool:
    """Whether one name did."""
    with TemporaryDirectory() as folder:
        outside = Path(folder)
        (outside / "secret.safetensors").write_bytes(b"")
        run = outside / "runs" / "run"
        recipe = Recipe()
        with RunStore.open(run, recipe) as store:
            store.commit(1, {"state.encoder.image.w": torch.zeros(2)})
            before = _files(outside)
            _try_as_run_name(name, outside)
            _try_as_tensor(name)
            _try_as_site(name, store)
            confined = _files(outside) == before
            stolen = _try_as_file_of_a_manifest(name, run, outside)
        return confined and not stolen


def _files(folder: Path) -> set[str]:
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.name not in ("events.jsonl", "round-0001.json")
    }


def _try_as_run_name(name: str, folder: Path) -> None:
    try:
        recipe = from_dict({"run": {"name": name}})
    except FedkimError:
        return
    made = (folder / "runs" / recipe.run.name).resolve()
    assert made.parent == (folder / "runs").resolve()


def _try_as_tensor(name: str) -> None:
    try:
        State({name: torch.zeros(1)})
    except FedkimError:
        return
    assert "/" not in name


def _try_as_site(name: str, store: RunStore) -> None:
    state = State({"encoder.image.w": torch.zeros(2)})
    update = Update(site=name, round=1, base_digest=state.digest(), state=state, num_examples={"encoder.image": 1})
    accepted, rejected = gate([update], round=1, state=state, owned={"site-1": ["encoder.image"]})
    assert not accepted
    store.event("rejected", round=1, site=rejected[0].site, reason=rejected[0].code)


def _try_as_file_of_a_manifest(name: str, run: Path, outside: Path) -> bool:
    """A manifest that names a file elsewhere, whose size, digest and checksum fit; whether that file was read."""
    path = run / "rounds" / "round-0001.json"
    lure = outside / "lure"
    save_file({"state.encoder.image.w": torch.ones(1)}, lure)
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have, or whose place is taken
        place = Path(os.path.normpath(path.parent / name))
        if place.is_relative_to(outside) and place.parent != path.parent:
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(lure, place)
    manifest = json.loads(path.read_text())
    manifest.pop("checksum")
    manifest |= {"file": name, "bytes": lure.stat().st_size, "sha256": file_digest(lure)}
    manifest["checksum"] = text_digest(canonical(manifest))
    path.write_text(json.dumps(manifest))
    try:
        latest = RunStore(run).latest()
    except FedkimError:
        return False
    return latest is not None and latest.tensors["state.encoder.image.w"].shape != (2,)
