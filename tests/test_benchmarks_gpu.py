"""The GPU benchmark's code runs: at a tiny size on the CPU always, a little larger on CUDA where there is one."""

import importlib
import json
from pathlib import Path

import pytest
import torch

from fedkim.injection import LLM, LLMS

ROOT = Path(__file__).parents[1]
SMALL = {
    "vocab_size": 1024,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 1,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": False,
}


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT))
    module = importlib.import_module("benchmarks.gpu")
    monkeypatch.setitem(LLMS, "small", LLM(name="small", prepare=Path, config=SMALL))
    return module


def figures(path):
    return {figure["name"]: figure for figure in json.loads(path.read_text())["figures"]}


def test_every_figure_of_a_tiny_shape_is_measured_on_the_cpu(gpu, tmp_path, capsys):
    settings = gpu.Settings(device="cpu", batch=2, tokens=64, experts=3, rank=2, rounds=2)
    path = gpu.measure("small", settings, tmp_path / "gpu")
    found = figures(path)
    for name in ("q, o", "k, v", "gate, up", "down"):
        for figure in ("m3oe / lora P·r", "m3oe / frozen", "einsum / m3oe", "kept bytes, einsum / m3oe"):
            assert found[f"{name}: {figure}"]["median"] > 0
    assert found["gate, up: kept bytes, einsum / m3oe"]["median"] > 5
    assert found["step / frozen forward"]["median"] > 1
    record = json.loads(path.read_text())
    assert record["settings"]["experts"] == 3
    assert "down: kept bytes per token" in record["median_milliseconds"]
    assert "gate, up: 32 -> 64, P = 3, r = 2, 2 × 64 tokens, fp32" in capsys.readouterr().out


def test_the_projections_are_those_of_internlm2_7b(gpu):
    assert gpu.projections(gpu.LLM) == {
        "q, o": (4096, 4096),
        "k, v": (4096, 1024),
        "gate, up": (4096, 14336),
        "down": (14336, 4096),
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_it_says_so_and_what_to_run_instead(gpu, tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        gpu.main(["--out", str(tmp_path / "gpu")])
    assert caught.value.code == 2
    assert "no CUDA device here" in capsys.readouterr().err
    assert not (tmp_path / "gpu").exists()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="SKIPPED, NOT RUN: needs CUDA")
def test_a_small_shape_is_measured_on_cuda_in_bfloat16(gpu, monkeypatch, tmp_path):
    sizes = SMALL | {"hidden_size": 512, "intermediate_size": 1024, "num_attention_heads": 8, "num_key_value_heads": 4}
    monkeypatch.setitem(LLMS, "medium", LLM(name="medium", prepare=Path, config=sizes))
    settings = gpu.Settings(device="cuda", dtype="bf16", batch=4, tokens=64, rounds=3)
    path = gpu.measure("medium", settings, tmp_path)
    found = figures(path)
    assert found["peak memory of a step, GB"]["median"] > 0
    peaks = json.loads(path.read_text())["median_milliseconds"]["gate, up: peak MiB above what stays"]
    assert peaks["einsum"] > peaks["m3oe"]
