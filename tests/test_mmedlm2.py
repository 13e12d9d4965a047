"""The way that docs/mmedlm2.md describes, walked with its own commands on a tiny checkpoint as published."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fedkim.cli import main
from fedkim.injection import load_llm
from internlm2_layout import CONFIG, logits, publish, weights

ROOT = Path(__file__).parents[1]
COMMANDS = [
    shlex.split(line, comments=True)
    for block in re.findall(
        r"```shell\n(.*?)```", (ROOT / "docs" / "mmedlm2.md").read_text(encoding="utf-8"), re.DOTALL
    )
    for line in block.splitlines()
]


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    """Where the reader stands once the conversions are done: every command up to the first run, as it is printed."""
    folder = tmp_path_factory.mktemp("reader")
    shutil.copytree(ROOT / "recipes", folder / "recipes")
    shutil.copytree(ROOT / "scripts", folder / "scripts")
    tensors = {name: tensor.to(torch.float16) for name, tensor in weights().items()}
    publish(folder / "MMedLM2", pickled=True, shards=4, tensors=tensors)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for words in COMMANDS:
            if words[0] == "convert/bin/python":
                subprocess.run([sys.executable, *words[1:]], check=True, capture_output=True)
            elif words[:2] == ["fedkim", "llm"]:
                assert main(words[1:]) == 0
    return folder


def test_the_page_names_every_step():
    firsts = [" ".join(words[:3]) for words in COMMANDS]
    assert firsts == [
        "python3 -m venv",
        "convert/bin/python scripts/pickles_to_safetensors.py MMedLM2",
        "fedkim llm convert",
        "fedkim llm check",
        "fedkim run recipes/paper.toml",
        "fedkim run recipes/smoke.toml",
    ]


def test_the_page_leads_from_pickles_to_a_model_with_the_same_logits(reader):
    llm = load_llm(str(reader / "MMedLM2-llama"), device="cpu", dtype="float32")
    ids = torch.arange(5, 25)
    exact = {name: tensor.to(torch.float16).float() for name, tensor in weights().items()}
    with torch.no_grad():
        torch.testing.assert_close(llm.model(ids[None]).logits[0], logits(exact, CONFIG, ids), rtol=0, atol=1e-5)


def test_a_recipe_is_planned_on_it(reader, monkeypatch, capsys):
    monkeypatch.chdir(reader)
    (words,) = (words for words in COMMANDS if "--check" in words)
    assert main(words[1:]) == 0
    said = capsys.readouterr().out
    assert f"{sum(tensor.numel() for tensor in weights().values()):,}" in said
    assert "LLM MMedLM2-llama" in said


def test_a_recipe_runs_on_it(reader, monkeypatch, capsys):
    monkeypatch.chdir(reader)
    (words,) = (words for words in COMMANDS if "recipes/smoke.toml" in words)
    assert main(words[1:]) == 0
    assert "digest of the weights" in capsys.readouterr().out
    assert (reader / "runs" / "smoke" / "report.html").is_file()
