"""Turn a published checkpoint's pickles (``pytorch_model*.bin``) into safetensors, in an environment of its own.

    python -m venv /tmp/convert && /tmp/convert/bin/pip install 'torch>=2.6' numpy safetensors
    /tmp/convert/bin/python scripts/pickles_to_safetensors.py SOURCE DIR

Unpickling is the one step that could run code hidden in the file, so fedkim itself can't do it, and this script stands
outside of the package and imports nothing of it. It allows tensors alone (``weights_only``), refuses versions of torch in
which that could be circumvented (CVE-2025-32434), and copies data files but no ``.py``. Run it without network and without
access to anything you would miss, once; from then on nobody needs the pickles.

Files are worked on one after another, so the memory of the largest is enough.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

BESIDE = ("*.json", "*.model", "LICENSE*", "README*", "merges.txt", "vocab.txt")
"""What else of a checkpoint is data; never code."""


class RefusedError(Exception):
    """One line for whoever called."""


def main(words: Sequence[str] | None = None) -> int:
    """Convert the folder named on the command line; the new one appears when it is whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, help="folder with pytorch_model*.bin")
    parser.add_argument("target", type=Path, help="a folder that doesn't exist yet")
    arguments = parser.parse_args(words)
    try:
        convert(arguments.source, arguments.target)
    except RefusedError as refused:
        print(f"pickles_to_safetensors: {refused}", file=sys.stderr)
        return 2
    print(f"written to {arguments.target}")
    return 0


def convert(source: Path, target: Path) -> None:
    """Every pickle of ``source`` as a safetensors file in ``target``, with an index and the data files beside them."""
    require_safe_torch(torch.__version__)
    if target.exists():
        raise RefusedError(f"{target} exists; name a new folder")
    files = pickles(source)
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix=".tmp-", dir=target.parent))
    try:
        where: dict[str, str] = {}
        total = 0
        for number, file in enumerate(files, start=1):
            name = "model.safetensors" if len(files) == 1 else f"model-{number:05d}-of-{len(files):05d}.safetensors"
            tensors = load(file)
            if twice := sorted(set(tensors) & set(where)):
                raise RefusedError(f"{file.name} holds {twice[0]} again")
            save_file(tensors, scratch / name, metadata={"format": "pt"})
            (scratch / name).chmod(0o644)  # safetensors writes for its owner alone
            where |= dict.fromkeys(tensors, name)
            total += sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
            print(f"{number} of {len(files)}: {file.name} -> {name}", flush=True)
            del tensors
        if len(files) > 1:
            index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(where.items()))}
            (scratch / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n", encoding="utf-8")
        for pattern in BESIDE:
            for file in source.glob(pattern):
                if file.is_file() and not file.name.endswith(".index.json"):
                    shutil.copyfile(file, scratch / file.name)
        scratch.chmod(0o755)
        scratch.rename(target)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def pickles(source: Path) -> list[Path]:
    """The files of the index, or ``pytorch_model.bin`` alone."""
    index = source / "pytorch_model.bin.index.json"
    if index.is_file():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise RefusedError(f"{index} is no index of pickles; fetch it again") from None
        if absent := [name for name in names if Path(name).name != name or not (source / name).is_file()]:
            raise RefusedError(f"{len(absent)} of the {len(names)} files of {index} are missing, such as {absent[0]}")
        return [source / name for name in names]
    if (source / "pytorch_model.bin").is_file():
        return [source / "pytorch_model.bin"]
    raise RefusedError(f"{source} holds neither pytorch_model.bin nor its index")


def load(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of one pickle, each with memory of its own (safetensors stores no shared memory)."""
    try:
        held = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever a damaged or hostile file raises
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RefusedError(f"{file.name} isn't a pickle of tensors alone ({reason[:160]})") from None
    if not isinstance(held, dict) or not all(isinstance(value, torch.Tensor) for value in held.values()):
        raise RefusedError(f"{file.name} holds more than named tensors")
    own: dict[int, int] = {}
    for value in held.values():
        own[value.untyped_storage().data_ptr()] = own.get(value.untyped_storage().data_ptr(), 0) + 1
    return {
        str(name): value.clone().contiguous()
        if own[value.untyped_storage().data_ptr()] > 1 or not value.is_contiguous()
        else value
        for name, value in held.items()
    }


def require_safe_torch(version: str) -> None:
    """Before 2.6 a crafted file could run code in spite of ``weights_only`` (CVE-2025-32434)."""
    numbers = tuple(int(part) for part in version.split("+")[0].split(".")[:2])
    if numbers < (2, 6):
        raise RefusedError(f"torch {version} is too old to open pickles safely (CVE-2025-32434); install 2.6 or later")


if __name__ == "__main__":
    sys.exit(main())
