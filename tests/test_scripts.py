"""The script that opens pickles; run as a user would, in a process that can't import fedkim, where that matters."""

import importlib.util
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from internlm2_layout import publish, weights

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "scripts" / "pickles_to_safetensors.py"


def run(*arguments):
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        [sys.executable, str(SCRIPT), *map(str, arguments)], capture_output=True, text=True, env=environment
    )


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("pickles_to_safetensors", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("shards", [1, 3])
def test_published_pickles_become_the_same_tensors_in_safetensors(shards, tmp_path):
    tensors = {name: tensor.to(torch.float16) for name, tensor in weights().items()}
    tensors["model.norm.weight"] = tensors["model.layers.0.ffn_norm.weight"]  # one memory under two names
    tensors["output.weight"] = tensors["output.weight"].T.contiguous().T  # not contiguous
    done = run(publish(tmp_path / "in", pickled=True, shards=shards, tensors=tensors), tmp_path / "out")
    assert done.returncode == 0, done.stderr
    files = sorted((tmp_path / "out").glob("*.safetensors"))
    assert len(files) == shards
    stored = {name: tensor for file in files for name, tensor in load_file(file).items()}
    assert set(stored) == set(tensors)
    assert all(torch.equal(stored[name], tensor) for name, tensor in tensors.items())
    if shards > 1:
        index = json.loads((tmp_path / "out" / "model.safetensors.index.json").read_text())
        assert {name: file.name for file in files for name in load_file(file)} == index["weight_map"]
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "tokenizer.model", "tokenizer_config.json"} <= names
    assert not [name for name in names if name.endswith((".py", ".bin")) or ".bin." in name]


class Hostile:
    """Unpickled the careless way this makes a folder."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return os.mkdir, (str(self.mark),)


def test_a_pickle_with_code_in_it_is_refused_and_the_code_never_runs(tmp_path):
    source, mark = publish(tmp_path / "in", pickled=True, shards=1), tmp_path / "it-ran"
    (source / "pytorch_model.bin").unlink()
    torch.save({"model.norm.weight": torch.ones(2), "x": Hostile(mark)}, source / "pytorch_model.bin")
    done = run(source, tmp_path / "out")
    assert done.returncode == 2
    assert "isn't a pickle of tensors alone" in done.stderr
    assert "Traceback" not in done.stderr
    assert not mark.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]
    pickle.loads(pickle.dumps(Hostile(mark)))  # what the careless way would have done
    assert mark.exists()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda folder: (folder / "pytorch_model-00002-of-00002.bin").unlink(), "1 of the 2 files"),
        (lambda folder: (folder / "pytorch_model-00001-of-00002.bin").write_bytes(b"nonsense"), "tensors alone"),
        (lambda folder: torch.save([1], folder / "pytorch_model-00001-of-00002.bin"), "more than named tensors"),
        (lambda folder: (folder / "pytorch_model.bin.index.json").unlink(), "neither pytorch_model.bin nor"),
    ],
)
def test_what_is_wrong_is_told_in_one_line_and_nothing_is_left(spoil, message, script, tmp_path, capsys):
    source = publish(tmp_path / "in", pickled=True)
    spoil(source)
    assert script.main([str(source), str(tmp_path / "out")]) == 2
    told = capsys.readouterr().err
    assert message in told
    assert len(told.strip().splitlines()) == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_an_existing_target_is_left_alone(script, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    assert script.main([str(publish(tmp_path / "in", pickled=True)), str(tmp_path / "out")]) == 2
    assert "exists; name a new folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("version", "safe"), [("2.5.1", False), ("1.13.0+cpu", False), ("2.6.0", True), ("3.0.0a0+git", True)]
)
def test_a_torch_whose_protection_can_be_circumvented_is_refused(version, safe, script):
    if safe:
        script.require_safe_torch(version)
    else:
        with pytest.raises(script.RefusedError, match="CVE-2025-32434"):
            script.require_safe_torch(version)


def test_the_script_knows_nothing_of_the_package():
    text = SCRIPT.read_text(encoding="utf-8")
    assert "import fedkim" not in text
    assert "from fedkim" not in text
