"""Shared by all tests: one torch thread (six times faster on a busy machine), a cache of their own, the data pack."""

import os
import tempfile
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch


@pytest.fixture(autouse=True, scope="session")
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _own_cache():
    """A cache that vanishes, child processes' too, unless the environment names one."""
    if os.environ.get("FEDKIM_CACHE"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="fedkim-tests-") as folder:
        os.environ["FEDKIM_CACHE"] = folder
        yield
        del os.environ["FEDKIM_CACHE"]


@pytest.fixture(scope="session")
def data_pack() -> Path:
    """The real-data pack's folder; a loud skip where it is absent."""
    root = os.environ.get("FEDKIM_DATA_PACK")
    if not root or not Path(root).is_dir():
        pytest.skip(
            "SKIPPED, NOT RUN: needs the real-data pack; set FEDKIM_DATA_PACK to its folder (docs/data/pack.md)"
        )
    return Path(root)
