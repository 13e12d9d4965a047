"""What went wrong in other federated systems and their libraries, each as a test that it can't here."""

import ast
import contextlib
import json
import pickle
import tomllib
from pathlib import Path

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from fedkim.aggregation import gate
from fedkim.errors import FedkimError
from fedkim.state import State, Update

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
STATE = State({"encoder.image.w": torch.arange(6.0).reshape(2, 3)})


def message(header, body=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + body


class Payload:
    def __reduce__(self):
        return (Path.write_text, (Path("exploited"), "x"))


def test_cve_2022_34668_a_pickle_in_place_of_weights_is_not_executed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FedkimError, match="a message, found something else, expected safetensors"):
        State.from_bytes(pickle.dumps(Payload()))
    (tmp_path / "weights.safetensors").write_bytes(pickle.dumps(Payload()))
    with pytest.raises(FedkimError, match="expected a safetensors file"):
        State.from_file(tmp_path / "weights.safetensors")
    assert not (tmp_path / "exploited").exists()


@pytest.mark.parametrize(
    "data",
    [
        message({}, length=2**62),
        message({}, length=1 << 21),
        message({"a.b": {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}}),
        message({"a.b": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}, b"1234"),
        message(b" " * (1 << 20) + b"{}"),
        message(b"[" * 100_000),
        b"",
        b"1234",
    ],
)
def test_cve_2022_21822_a_message_that_claims_to_be_huge_is_refused_before_memory_is_taken(data, monkeypatch):
    """What was asked for is known, and its reader never sees a message whose header says something else."""
    with pytest.raises(FedkimError):
        State.from_bytes(data)
    monkeypatch.setattr("fedkim.state._tensors_of", lambda data: pytest.fail("read"))
    with pytest.raises(FedkimError):
        State.from_bytes(data, expected=STATE)


@pytest.mark.parametrize(
    "tensors",
    [
        {"encoder.image.w": torch.zeros(1)},
        {"encoder.image.w": torch.zeros(3, 3)},
        {"encoder.image.w": torch.zeros(2, 3, dtype=torch.float64)},
        {"encoder.image.v": torch.zeros(2, 3)},
        {"encoder.image.w": torch.zeros(2, 3), "encoder.image.v": torch.zeros(1)},
        {},
    ],
)
def test_a_header_that_announces_something_else_is_refused(tensors):
    assert State.from_bytes(STATE.to_bytes(), expected=STATE).digest() == STATE.digest()
    with pytest.raises(
        FedkimError, match=r"a message's tensors, found \d of other names, shapes or types, expected the 1"
    ):
        State.from_bytes(State(tensors).to_bytes(), expected=STATE)


@given(st.binary(max_size=200), st.integers(0, 300), st.binary(max_size=8))
@example(b"", 0, b"")
def test_bytes_from_outside_are_a_state_or_one_of_our_errors(noise, place, patch):
    data = bytearray(STATE.to_bytes())
    data[place : place + len(patch)] = patch
    for attempt in (noise, bytes(data), message(noise)):
        with contextlib.suppress(FedkimError):
            assert isinstance(State.from_bytes(attempt), State)


def test_cve_2026_24178_nobody_is_who_he_says_he_is():
    """Identity comes from the registration: a name in a message that isn't registered gets nowhere near the mean."""
    update = Update(site="admin", round=1, base_digest=STATE.digest(), state=STATE, num_examples={"encoder.image": 1})
    accepted, rejected = gate([update], round=1, state=STATE, owned={"site-1": ["encoder.image"]})
    assert accepted == []
    assert [rejection.code for rejection in rejected] == ["E-SITE"]


def called(tree):
    """Dotted names of what a module calls."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func)


def test_cve_2026_24186_no_class_or_module_is_named_by_a_message():
    """Modules are imported by name only where a user or this package names them."""
    # lazy names of our own, a recipe's plug-ins, the readers that this process hands to its own workers, Flower's command by its one name
    allowed = {
        *("__init__.py", "recipe/plugins.py", "data/public_sets.py", "data/decoding.py"),
        "coordinator/superlink.py",
    }
    found = {
        str(path.relative_to(ROOT / "src" / "fedkim"))
        for path in SOURCES
        if any(name.endswith("import_module") for name in called(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert "recipe/plugins.py" in found  # the search finds what it looks for
    assert found <= allowed


def test_cve_2026_1839_and_cve_2024_5480_no_trainer_state_and_no_remote_calls():
    for path in SOURCES:
        text = path.read_text(encoding="utf-8")
        assert "torch.distributed.rpc" not in text, path
        names = {
            alias.name
            for node in ast.walk(ast.parse(text))
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("transformers")
            for alias in node.names
        }
        assert not names & {"Trainer", "Seq2SeqTrainer"}, path


def test_libraries_with_known_holes_are_not_depended_on():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    assert "torch>=2.10" in wanted  # CVE-2025-32434, CVE-2026-24747
    assert any(item.startswith("transformers>=5") for item in wanted)  # CVE-2026-1839
    assert not [item for item in wanted if item.startswith(("fedml", "openfl", "nvflare"))]  # CVE-2026-5536 and others


def test_files_with_code_in_them_never_ship():
    """No pickle of whatever name stands in the repository."""
    tracked = [
        path for path in ROOT.rglob("*") if path.is_file() and ".venv" not in path.parts and ".git" not in path.parts
    ]
    pickles = {".pkl", ".pickle", ".pt", ".pth", ".ckpt", ".npy", ".npz", ".joblib"}
    assert len(tracked) > 200
    assert [path for path in tracked if path.suffix in pickles and "runs" not in path.parts] == []
