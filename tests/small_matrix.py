"""A matrix of cells that take a second or two: two sites, two rounds, pictures alone, a random language model."""

from pathlib import Path

from fedkim.experiments.matrix import Matrix
from fedkim.experiments.matrix_file import load_matrix

BASE = """
name = "small-matrix"
[base.run]
dtype = "float32"
[base.data]
image_size = 32
image_patients = 90
signal_patients = 0
icu_patients = 0
rho = 1.0
[base.tasks]
seen = ["lung_opacity", "covid"]
unseen = ["enlarged_cardiomediastinum", "atelectasis", "pleural_effusion", "slake"]
[base.federation]
rounds = 2
sites = 2
[base.extraction]
width = 16
[base.llm]
name = "tiny"
max_new_tokens = 2
[base.m3oe]
experts = 4
rank = 2
router_width = 16
[base.injection]
batch_size = 4
steps_per_round = 2
[base.evaluation]
draws = 100
development_samples = 8
blind = false
reveal_test = true
"""


def small_matrix(folder: Path, cells: str, **replaced: str) -> Matrix:
    """Write it to ``folder/small.toml`` with these cells, some ``key = value`` lines of the base replaced, and read it."""
    lines = BASE.splitlines()
    for key, value in replaced.items():
        assert any(line.startswith(f"{key} = ") for line in lines)
        lines = [f"{key} = {value}" if line.startswith(f"{key} = ") else line for line in lines]
    (folder / "small.toml").write_text("\n".join(lines) + cells)
    return load_matrix(folder / "small.toml")
