"""A packaged GGUF model is known by its whole content; converting one is covered by every run with SmolLM2."""

import pytest

from fedkim.errors import FedkimError
from fedkim.injection.conversion import gguf


def test_weights_behind_the_first_megabytes_make_another_folder(tmp_path):
    """The tokenizer comes first in such a file and takes more than a megabyte of it."""
    source, folders = tmp_path / "model.gguf", []
    for weights in (b"a", b"b", b"a"):
        source.write_bytes(b"GGUF" + bytes(3 << 20) + weights)
        named = tmp_path / f"cached-{gguf._fingerprint(source)}"
        named.mkdir(exist_ok=True)
        (named / "model.safetensors").touch()  # converted before, so that it is taken as it is
        folders.append(gguf.convert_gguf(source, tmp_path / "cached"))
    assert folders[0] == folders[2] != folders[1]


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(FedkimError, match=r"model file none\.gguf, found no such file"):
        gguf.convert_gguf(tmp_path / "none.gguf", tmp_path / "cached")
