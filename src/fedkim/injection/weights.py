"""Whether a folder's weights are those that its configuration describes: by the files' headers alone, and as they were loaded.

The loader of transformers draws whatever a checkpoint lacks anew, at every load, and says so in a warning at most.
"""

import copy
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from fedkim.errors import FedkimError
from fedkim.injection.checkpoint import named
from fedkim.injection.conversion.shards import INDEX, safetensors_files, stored_shapes
from fedkim.injection.quiet import quiet_transformers

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.pth", "*.gguf")
_IN_A_LAYER = re.compile(r"([^.]+\.\d+)\.")


def holds_weights(folder: Path) -> bool:
    """Whether a folder has weights in any form, readable here or not; a plan needs none."""
    return any(any(folder.glob(pattern)) for pattern in _WEIGHTS)


def check_weights(folder: Path, empty: nn.Module) -> None:
    """Refuse weights that aren't the model's, by names and shapes: no tensor is read.

    The loader itself says what it would miss, given tensors without values: it knows each family's older names.

    Args:
        folder: where ``config.json`` and the safetensors lie.
        empty: the model of that configuration, without values.

    Raises:
        FedkimError: no safetensors, a damaged file, and see :func:`refuse_incomplete`.
    """
    shapes = [stored_shapes(file) for file in weight_files(folder)]
    config: Any = copy.deepcopy(empty.config)
    if getattr(config, "quantization_config", None):
        return  # its tensors have shapes of their own; what is loaded is looked at all the same
    stored = {name: torch.empty(shape, device="meta") for file in shapes for name, shape in file.items()}
    family: Any = type(empty)
    with quiet_transformers():
        _, info = family.from_pretrained(
            None,
            config=config,
            state_dict=stored,
            dtype=torch.float32,
            device_map={"": "meta"},
            ignore_mismatched_sizes=True,
            output_loading_info=True,
        )
    refuse_incomplete(folder, empty, info)


def weight_files(folder: Path) -> list[Path]:
    """The files that the loader takes: ``model.safetensors``, else those of the index.

    Raises:
        FedkimError: there are none, and what there is instead.
    """
    whole = folder / "model.safetensors"
    if whole.is_file():
        return [whole]
    if (folder / INDEX).is_file():
        return safetensors_files(folder)
    pickles = sorted(folder.glob("pytorch_model*.bin"))
    others = [path.name for pattern in ("*.safetensors", "*.gguf", "*.bin", "*.pth") for path in folder.glob(pattern)]
    found, remedy = "no weights", ""
    if pickles:
        found = f"{pickles[0].name}, a pickle, which could run code"
        remedy = f"run scripts/pickles_to_safetensors.py {folder} DIR in an environment of its own, then llm.name = DIR"
    elif others:
        found = min(others)
    raise FedkimError(named(folder), found=found, expected=f"model.safetensors or {INDEX}", remedy=remedy)


def refuse_incomplete(folder: Path, model: nn.Module, info: Mapping[str, Any]) -> None:
    """Refuse a model of which the loader says that it and its checkpoint don't belong together.

    Args:
        folder: for the message.
        model: as it was loaded, or without values.
        info: what ``from_pretrained(…, output_loading_info=True)`` gives beside the model.

    Raises:
        FedkimError: tensors that are missing, of another shape, or of layers that the configuration doesn't have.
    """
    what, remedy = named(folder), "fetch the folder again, or take the config.json that belongs to the weights"
    if missing := sorted(info["missing_keys"]):
        found = f"no weights for {len(missing)} of the model's tensors, such as {missing[0]}"
        raise FedkimError(what, found=found, expected="every tensor of its config.json", remedy=remedy)
    for name, stored, expected in sorted(info["mismatched_keys"]):
        found = f"tensor {name} of shape {list(stored)}"
        raise FedkimError(what, found=found, expected=f"{list(expected)} by config.json", remedy=remedy)
    own = {layer for key in model.state_dict() for layer in _layers(key)}
    # what an earlier version kept in a layer that is there, such as a mask, takes nothing away
    if foreign := sorted(key for key in info["unexpected_keys"] if not own.issuperset(_layers(key))):
        found = f"{len(foreign)} tensors of layers that its config.json doesn't describe, such as {foreign[0]}"
        raise FedkimError(what, found=found, remedy=remedy)


def refuse_nonfinite(name: str, model: nn.Module) -> None:
    """Refuse a model whose weights hold NaN or infinity: whatever is trained on it, the loss would be no number.

    Raises:
        FedkimError: the first such tensor.
    """
    for key, parameter in model.named_parameters():
        if parameter.is_floating_point() and parameter.element_size() > 1:
            least, most = parameter.detach().aminmax()  # no copy of the weights, as isfinite over them would make
            if not (least.isfinite() and most.isfinite()):
                raise FedkimError(
                    f"language model {name!r}",
                    found=f"values that aren't finite in tensor {key}",
                    remedy="fetch or convert it again",
                )


def _layers(key: str) -> set[str]:
    """The layers that a tensor's name goes through, ``{"layers.3"}``: what stands before them differs between a model and its checkpoint."""
    return set(_IN_A_LAYER.findall(key))
