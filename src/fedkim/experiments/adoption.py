"""Cells that train exactly as another cell does, and only ask other things at the end: they begin with its last round.

ρ says which labels the linked findings of the synthetic patients carry. Where all of them are unseen, nothing that trains
reads these, and runs that differ in ρ alone end with the same weights, bit for bit (``tests/experiments/test_adoption.py`` trains
both and compares). A linked finding that is trained on, or that the recipe leaves out, has its part in the split. The blind
reference is a second training after the first one's end.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkim.data.phantom.factors import FINDINGS
from fedkim.errors import FedkimError
from fedkim.experiments.matrix import Cell, Matrix
from fedkim.recipe import Recipe
from fedkim.store.run_store import RunStore

_BOOKKEEPING = ("parent", "environment", "round", "file", "bytes", "sha256", "recipe", "committed_at", "checksum")
_ADOPTED = "adopted_from"


def donor_of(matrix: Matrix, cell: Cell, chosen: Mapping[str, int] | None = None) -> Cell | None:
    """The cell of the main setting whose training is this one's too; None if there is none."""
    if not cell.variation or cell.configuration is not None:
        return None
    own = _training(matrix.recipe(cell, chosen))
    for other in matrix.cells:
        same = (other.method, other.backbone, other.seed) == (cell.method, cell.backbone, cell.seed)
        if same and not other.variation and own == _training(matrix.recipe(other, chosen)):
            return other
    return None


def heirs_of(matrix: Matrix, cell: Cell, chosen: Mapping[str, int] | None = None) -> list[Cell]:
    """The cells that begin with this one's last round."""
    if cell.variation or cell.configuration is not None:
        return []
    return [
        other
        for other in matrix.cells
        if (other.method, other.backbone, other.seed) == (cell.method, cell.backbone, cell.seed)
        and donor_of(matrix, other, chosen) == cell
    ]


def adopt(recipe: Recipe, folder: Path, donor: Path) -> bool:
    """Commit the donor's last round as this run's own; False if the donor isn't there whole, or this run has begun already."""
    try:
        store = RunStore(donor)
        if _training(store.recipe()) != _training(recipe):
            return False  # begun under settings that the matrix has no more
        committed = store.latest()
    except FedkimError:
        return False
    if committed is None or committed.round != recipe.federation.rounds:
        return False
    manifest = dict(committed.manifest)
    with RunStore.open(folder, recipe, environment=manifest["environment"]) as own:
        if own.committed_rounds():
            return False
        kept = {key: value for key, value in manifest.items() if key not in _BOOKKEEPING}
        own.commit(committed.round, committed.tensors, {**kept, _ADOPTED: donor.name})
    return True


def trained_in(folder: Path) -> str:
    """The cell whose training a run began with; empty where it did its own. Said by the round itself, so that a cut-off loses nothing."""
    committed = RunStore(folder).latest()
    return str(committed.manifest.get(_ADOPTED, "")) if committed else ""


def _training(recipe: Recipe) -> dict[str, Any]:
    """A recipe without what only the evaluation reads."""
    tables = recipe.to_dict()
    drawn = {
        "image": recipe.data.image_patients,
        "signal": recipe.data.signal_patients,
        "icu": recipe.data.icu_patients,
    }
    linked = {finding.task for finding in FINDINGS.values() if finding.partner and drawn[finding.kind]}
    if tables["data"]["source"] == "phantom" and linked <= set(recipe.tasks.unseen):
        del tables["data"]["rho"]
    del tables["evaluation"]["blind"]
    return tables
