"""Language models with something taken away: the same architecture without what it learned, or without its later layers.

What an injected model does as well on them, it doesn't owe to the language model's knowledge.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from fedkim.injection.conversion.folder import appearing_once
from fedkim.injection.quiet import quiet_transformers
from fedkim.randomness import generator_for

_RULES = 2
"""Rises with every change of what is written from the same model."""
_RESIDUAL = ("o_proj.weight", "down_proj.weight")


def without_knowledge(source: Path) -> Path:
    """The model of a folder with weights like those that its training began with, beside it; made once.

    Matrices are drawn from N(0, 1/width), those that write into the residual stream from one √(2·layers) times narrower, as is common
    where language models of this family are trained. Norms are one, biases nought. Tokenizer and configuration stay.
    """
    return _beside(source, "random", _draw)


def first_layers(source: Path, layers: int) -> Path:
    """The model of a folder with its first layers alone, and its own norm and head after them; beside it, made once."""

    def cut(model: Any) -> None:
        model.model.layers = model.model.layers[:layers]
        model.config.num_hidden_layers = layers
        if getattr(model.config, "layer_types", None):
            model.config.layer_types = model.config.layer_types[:layers]

    return _beside(source, f"{layers}-layers", cut)


def _beside(source: Path, name: str, change: Callable[[Any], None]) -> Path:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = source.with_name(f"{source.name}-{name}-{_RULES}")
    if (folder / "model.safetensors").is_file():
        return folder
    with quiet_transformers(), appearing_once(folder, "model.safetensors") as scratch:
        model = AutoModelForCausalLM.from_pretrained(
            source, dtype=torch.float32, local_files_only=True, use_safetensors=True
        )
        with torch.no_grad():
            change(model)
        model.save_pretrained(scratch)
        AutoTokenizer.from_pretrained(source, local_files_only=True).save_pretrained(scratch)
    return folder


def _draw(model: Any) -> None:
    width, residual = model.config.hidden_size**-0.5, (2 * model.config.num_hidden_layers) ** -0.5
    for name, parameter in model.named_parameters():  # a head that is the embedding comes once
        if parameter.ndim < 2:
            parameter.fill_(float(name.endswith("weight")))  # a norm's one, a bias's nought
            continue
        deviation = width * residual if name.endswith(_RESIDUAL) else width
        parameter.normal_(0.0, deviation, generator=generator_for(0, "random language model", name))
