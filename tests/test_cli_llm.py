"""``fedkim llm``: what is there, what a folder is, and the way from a published checkpoint to one that loads."""

import json
import re
import shutil
import subprocess
import sys

import pytest

from fedkim.cli import main
from fedkim.injection import LLMS
from fedkim.injection.conversion import convert_internlm2
from internlm2_layout import publish

VERBS = ("list", "check", "convert")


@pytest.fixture
def told(capsys):
    """The exit status of a command, what it said on stderr, what it printed."""

    def tell(*words):
        status = main(["llm", *(str(word) for word in words)])
        out, err = capsys.readouterr()
        return status, err.rstrip("\n"), out

    return tell


@pytest.mark.parametrize("words", [["--help"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_needs_no_heavy_imports(words):
    code = (
        "import sys; from fedkim.cli import main; status = main(['llm', *sys.argv[1:]]); "
        "heavy = {'torch', 'transformers', 'safetensors', 'numpy', 'peft'} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else status)"
    )
    done = subprocess.run([sys.executable, "-c", code, *words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "fedkim llm" in done.stdout


def test_the_list_names_every_record_its_size_and_its_origin(told):
    status, _, out = told("list")
    assert status == 0
    rows = {line.split()[0]: line for line in out.splitlines() if "│" in line}
    assert "134,515,008" in rows["smollm2-135m"]
    assert "7,737,708,544" in rows["mmedlm2"]  # InternLM2-7B: 7.7 billion
    assert "Apache-2.0" in rows["mmedlm2"]
    assert "converted from InternLM2's layout" in rows["mmedlm2"]
    assert "gpt_neox" in out
    assert "fedkim llm convert first" in out


def test_a_published_folder_is_converted_checked_and_speaks(told, tmp_path):
    status, err, out = told("convert", publish(tmp_path / "in"), "--to", tmp_path / "out")
    assert (status, err) == (0, "")
    assert out.startswith(f"written to {tmp_path / 'out'}")
    status, _, out = told("check", tmp_path / "out", "--say", "Answer:")
    assert status == 0
    assert "llama, 2 layers, 48 wide" in out
    assert "BOS '<s>', EOS '</s>'; text comes back" in out
    assert len(out.split("continues")[1].strip()) > len("Answer:")


def test_the_tiny_model_is_described(told):
    status, _, out = told("check", "tiny")
    assert status == 0
    assert "106,816" in out
    assert "q_proj, k_proj" in out
    assert "continues" not in out


def test_what_a_model_says_depends_on_no_taste_of_its_folder(told, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(LLMS["tiny"].prepare(), folder)
    _, _, before = told("check", folder, "--say", "Is it")
    taste = {"do_sample": True, "temperature": 5.0, "repetition_penalty": 9.0, "eos_token_id": 5}
    (folder / "generation_config.json").write_text(json.dumps(taste))
    status, _, out = told("check", folder, "--say", "Is it")
    assert (status, out) == (0, before)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["check", "somebody/model"], "'somebody/model', found no such folder, and no copy of it from the hub"),
        (["check", "/nowhere/model"], "'/nowhere/model', found no such folder; check llm.name"),
        (["check", "tinny"], "unknown language model .*'tinny'; did you mean 'tiny'"),
        (["check", "mmedlm2"], r"language model 'mmedlm2', found no weights.* \(docs/mmedlm2\.md\)"),
        (["convert", "nowhere", "--to", "out"], "folder nowhere, found no such folder"),
        (["convert", "nowhere"], "--to"),
    ],
)
def test_mistakes_are_told_in_one_line(words, message, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, err, _ = told(*words)
    assert status == 2
    assert len(err.splitlines()) == 1
    assert err.startswith("fedkim: error: ")
    assert re.search(message, err)


def test_a_folder_without_a_tokenizer_is_named(told, tmp_path):
    folder = convert_internlm2(publish(tmp_path / "in"), tmp_path / "out")
    for file in folder.glob("tokenizer*"):
        file.unlink()
    status, err, _ = told("check", folder)
    assert status == 2
    assert "expected tokenizer.json" in err
