"""Soft tokens that travel with an export: encoders and alignment in a folder, and the loader that reads it back.

The folder holds ``encoders.json`` and one safetensors file per modality, with tensors ``encoder.…`` (the modality's
network) and ``projector.…`` (g with its tags and constants). ``docs/export.md`` spells both out, and runs them without
this package.

Shapes: B batch, k tokens of a modality, W encoder width, H the LLM's hidden size, L positions.
"""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fedkim import __version__
from fedkim.errors import FedkimError, unknown
from fedkim.injection.alignment import Alignment
from fedkim.injection.injector import Injector
from fedkim.injection.prompt import prompt_text
from fedkim.modalities import MODALITIES
from fedkim.modalities.initialise import build
from fedkim.randomness import generator_for
from fedkim.recipe import Extraction
from fedkim.state import State

FORMAT = "fedkim-encoders-1"
RECORD = "encoders.json"


class SoftTokens(nn.Module):
    """From inputs to the embeddings that stand before a question, for any copy of the language model.

    Args:
        encoders: by modality, in prompt order.
        projectors: g by modality.
        record: the content of ``encoders.json``.
    """

    def __init__(self, encoders: Mapping[str, nn.Module], projectors: Mapping[str, nn.Module], record: dict[str, Any]):
        super().__init__()
        self.encoders, self.projectors = nn.ModuleDict(encoders), nn.ModuleDict(projectors)
        self.record = record

    def forward(self, inputs: Mapping[str, Tensor]) -> Tensor:
        """``[B, sum of k + 2, H]``: per modality ``<m>, e_1 … e_k, </m>``, in prompt order.

        Args:
            inputs: prepared tensors ``[B, *input_shape]`` by modality, exactly those of the export.

        Raises:
            FedkimError: a modality is missing, superfluous or of another shape.
        """
        wanted = self.record["modalities"]
        if set(inputs) != set(wanted):
            raise FedkimError(
                "inputs", found=", ".join(sorted(inputs)) or "none", expected=", ".join(wanted) or "no input"
            )
        for name, x in inputs.items():
            if list(x.shape[1:]) != wanted[name]["input_shape"]:
                raise FedkimError(
                    f"input {name!r}",
                    found=f"shape {list(x.shape)}",
                    expected=f"[batch, *{wanted[name]['input_shape']}]",
                )
        return torch.cat([self.projectors[name](self.encoders[name](inputs[name])) for name in wanted], dim=1)

    def embed(self, model: nn.Module, tokenizer: Any, inputs: Mapping[str, Tensor], question: str = "") -> Tensor:
        """``[B, L, H]``, ready for ``model(inputs_embeds=…)`` or ``model.generate(inputs_embeds=…)``.

        BOS, the segments, then the words around the question; the task's own unless one is given.
        """
        prompt = self.record["prompt"]
        text = prompt["text"].replace("{question}", question or prompt["question"])
        ids = [prompt["begin_token"], *tokenizer(text, add_special_tokens=False)["input_ids"]]
        embedding = model.get_input_embeddings()  # type: ignore[operator]
        words = embedding(torch.tensor([ids], device=embedding.weight.device))
        batch = len(next(iter(inputs.values()))) if inputs else 1
        words = words.expand(batch, -1, -1)
        if not inputs:
            return words
        soft = self(inputs).to(device=words.device, dtype=words.dtype)
        return torch.cat([words[:, :1], soft, words[:, 1:]], dim=1)


def write_encoders(
    injector: Injector,
    folder: Path,
    *,
    task: str,
    modalities: tuple[str, ...],
    shapes: Mapping[str, tuple[int, ...]],
    settings: Extraction,
) -> Path:
    """Write the encoders and alignment of some modalities to ``folder``.

    Args:
        injector: whose.
        folder: made if absent.
        task: whose question goes into the prompt's record.
        modalities: in prompt order; text has no encoder and is passed over.
        shapes: of the prepared inputs, by modality.
        settings: which encoders the run uses, of which width and number of tokens.
    """
    folder.mkdir(parents=True, exist_ok=True)
    described: dict[str, Any] = {}
    for name in modalities:
        if name == "text":
            continue
        encoder, projector = injector.encoders[name], injector.alignment[name]
        state = State.joined({"encoder": encoder.state_dict(), "projector": projector.state_dict()})
        (folder / f"{name}.safetensors").write_bytes(state.to_bytes())
        modality = MODALITIES[name]
        described[name] = {
            "file": f"{name}.safetensors",
            "sha256": state.digest(),
            "description": modality.description,
            "input_shape": list(shapes[name]),
            "preprocessing": modality.preprocessing,
            "encoder": settings.encoders.get(name, next(iter(modality.encoders))),
            "width": settings.width,
            "tokens": settings.tokens.get(name, modality.tokens),
        }
    record = {
        "format": FORMAT,
        "fedkim": __version__,
        "hidden_size": injector.llm.hidden_size,
        "modalities": described,
        "prompt": {
            "text": prompt_text("{question}"),
            "question": injector.tasks[task].question,
            "answer": " {answer}",
            # by answer: tokenised alone, some begin with one space too many
            "answers": {answer: injector.tokens.answer(answer) for answer in injector.tasks[task].answers or ()},
            "begin_token": injector.llm.begin_token,
            "end_token": injector.llm.end_token,
        },
    }
    (folder / RECORD).write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return folder


def load_encoders(folder: str | Path) -> SoftTokens:
    """The encoders and alignment of an export, frozen and in evaluation mode, on the CPU in float32.

    Args:
        folder: what ``fedkim export`` wrote, or the ``encoders`` folder inside.

    Raises:
        FedkimError: no such export, another format, a modality or encoder that isn't registered (import its plug-in
            first), preprocessing of another version than this package's, a file that isn't the one described.
    """
    folder = Path(folder)
    folder = folder if (folder / RECORD).is_file() else folder / "encoders"
    record = _record(folder / RECORD)
    try:
        return _built(folder, record)
    except FedkimError:
        raise
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        found = f"a description that lacks something ({type(error).__name__})"
        raise FedkimError(f"file {folder / RECORD}", found=found, remedy="export anew") from None


def _built(folder: Path, record: dict[str, Any]) -> SoftTokens:
    encoders: dict[str, nn.Module] = {}
    projectors: dict[str, nn.Module] = {}
    for name, facts in record["modalities"].items():
        if name not in MODALITIES:
            raise unknown("modality", name, MODALITIES)
        modality = MODALITIES[name]
        if facts["encoder"] not in modality.encoders:
            raise unknown(f"encoder of {name}", facts["encoder"], modality.encoders)
        if facts["preprocessing"] != modality.preprocessing:
            raise FedkimError(
                f"export {folder}: preprocessing of {name}",
                found=f"version {facts['preprocessing']}",
                expected=f"version {modality.preprocessing}, this package's",
                remedy=f"use fedkim {record['fedkim']}, which wrote it",
            )
        state = State.from_file(folder / facts["file"])
        if state.digest() != facts["sha256"]:
            raise FedkimError(
                f"weights file {folder / facts['file']}", found="other tensors than described", remedy="export anew"
            )
        make = partial(
            modality.encoders[facts["encoder"]], tuple(facts["input_shape"]), facts["width"], facts["tokens"]
        )
        encoders[name] = build(make, generator_for(0, "overwritten"))
        _fill(encoders[name], state.below("encoder"), folder / facts["file"])
        projectors[name] = Alignment(facts["width"], record["hidden_size"], 1.0, seed=0, modality=name)
        _fill(projectors[name], state.below("projector"), folder / facts["file"])
    return SoftTokens(encoders, projectors, record).requires_grad_(False).eval()


def _fill(module: nn.Module, weights: Mapping[str, Tensor], path: Path) -> None:
    own = {name: tuple(tensor.shape) for name, tensor in module.state_dict().items()}
    if own != {name: tuple(tensor.shape) for name, tensor in weights.items()}:
        raise FedkimError(
            f"weights file {path}",
            found="tensors of another architecture",
            expected=f"those of this package's {type(module).__name__}",
            remedy="use the version of fedkim that wrote it (in encoders.json)",
        )
    module.load_state_dict(dict(weights))


def _record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise FedkimError(
            f"export {path.parent}", found=f"no {RECORD}", expected="a folder made by `fedkim export`"
        ) from None
    except ValueError:
        raise FedkimError(f"file {path}", found="no JSON", remedy="export anew") from None
    found = record.get("format") if isinstance(record, dict) else None
    if found != FORMAT:
        raise FedkimError(f"file {path}", found=f"format {found!r}", expected=repr(FORMAT))
    return record
