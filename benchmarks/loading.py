"""Loading pictures: the second pass over a data set, mapped from the cache, against the first, which decodes.

    FEDKIM_DATA_PACK=... python -m benchmarks loading

The pictures are the real-data pack's thousand chest X-rays (docs/data/pack.md), or as many synthetic ones of the same size if
no pack is there. A pass ends when every value has been read once. Both passes hash or recognise the source files; the
second also checks the cache's checksums.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.measure import Report, Settings, exact, ratio, take_turns
from fedkim.data.decoding import decode
from fedkim.data.record import Input, Record
from fedkim.data.sources import nih

NUMBER, SIDE = 1000, 224
TARGET = 20


def run(settings: Settings, report: Report) -> None:
    """First and second passes by turns, each first one with an empty cache."""
    before = os.environ.get("FEDKIM_CACHE")
    with tempfile.TemporaryDirectory(prefix="fedkim-loading-") as folder:
        try:
            records, what = _records(Path(folder))
            report.title(f"loading {len(records)} {what}")
            empty = iter(range(10**6))
            warm = Path(folder) / "warm"

            def passing(cache: Path) -> None:
                os.environ["FEDKIM_CACHE"] = str(cache)
                sum(float(tensors["image"].sum()) for tensors in decode(records))

            seconds = take_turns(
                {"first": lambda: passing(Path(folder) / f"cold-{next(empty)}"), "second": lambda: passing(warm)},
                device="cpu",
                rounds=settings.rounds,
            )
            report.remember("loading", seconds)
            name = "first pass / second pass"
            report.add(ratio(name, seconds["first"], seconds["second"], target=TARGET, at_least=True))
            kept = sum(path.stat().st_size for path in warm.rglob("*.safetensors")) / len(records)
            report.add(exact("bytes in the cache a picture", kept))
        finally:
            os.environ.pop("FEDKIM_CACHE")
            if before is not None:
                os.environ["FEDKIM_CACHE"] = before


def _records(folder: Path) -> tuple[list[Record], str]:
    root = os.environ.get("FEDKIM_DATA_PACK", "")
    if root:
        films = nih.read_table(Path(root))
        paths, what = [nih.image_path(Path(root), film) for film in films], "chest X-rays of the real-data pack"
    else:
        paths, what = _synthetic(folder / "pictures"), "synthetic pictures"
    inputs = [Input(path=path, read=nih.read_film, settings={"size": 64}) for path in paths]
    return [Record(id=given.path.name, patient="", inputs=(given,), labels={}) for given in inputs], what


def _synthetic(folder: Path) -> list[Path]:
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(NUMBER):
        coarse = Image.fromarray(random.integers(0, 255, (28, 28), dtype=np.uint8)).resize((SIDE, SIDE))
        noisy = np.asarray(coarse) * 0.9 + random.normal(0, 3, (SIDE, SIDE))
        Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8)).save(folder / f"{number}.png")
    return sorted(folder.iterdir())
