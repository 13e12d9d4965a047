"""Which data a run is made of, as one number in its folder: on another hospital's data, or on mended tables, it is another run.

A recipe's folders don't count for its identity, so that a run may move with its data; what they hold does.
"""

import hashlib
import json
from pathlib import Path

from fedkim.data.phantom.settings import GENERATOR_VERSION
from fedkim.data.sample import Dataset
from fedkim.errors import FedkimError
from fedkim.store.files import write_text

NAME = "data.json"


def data_digest(data: Dataset) -> str:
    """sha256 over every sample's id, patient, split, site, labels, questions and shapes of inputs, in their order.

    Values of inputs don't count: preprocessed on another processor their last bits may differ.
    """
    digest = hashlib.sha256(f"{GENERATOR_VERSION if data.synthetic else ''}".encode())
    for sample in data:
        shapes = {name: tuple(tensor.shape) for name, tensor in sample.inputs.items()}
        told = (sample.id, sample.patient, sample.split, sample.site, sorted(sample.groups))
        named = [sorted(one.items()) for one in (sample.labels, sample.questions, sample.strata, shapes)]
        digest.update(repr((told, named)).encode())
    return digest.hexdigest()


def contents_digest(data: Dataset) -> str:
    """sha256 over :func:`data_digest` and the values of every input, bit by bit."""
    digest = hashlib.sha256(data_digest(data).encode())
    for sample in data:
        for _, tensor in sorted(sample.inputs.items()):
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def require_same_data(folder: Path, data: Dataset) -> None:
    """Remember the data of a run that begins; refuse to go on with, or answer for, other data.

    Raises:
        FedkimError: the data differ from those that the run in ``folder`` began with.
    """
    own = data_digest(data)
    path = folder / NAME
    if not path.exists():
        write_text(path, json.dumps({"digest": own}))
        return
    try:
        begun = json.loads(path.read_text(encoding="utf-8"))["digest"]
    except (OSError, ValueError, KeyError, TypeError):
        raise FedkimError(f"{path}", found="unreadable", remedy="restore it, or begin anew with --force") from None
    if begun != own:
        raise FedkimError(
            f"run {folder}",
            found="other data than it began with (samples, splits, labels, or the generator's version)",
            expected="the same data",
            remedy="give another folder for the run (--out), or begin anew with --force",
        )
