"""``fedkim llm list | check | convert``: the frozen language models, by name or as folders."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from fedkim.cli.terminal import console

if TYPE_CHECKING:
    from fedkim.injection import LanguageModel

llm = App(name="llm", help="List, check and convert language models.", help_format="plaintext")


@llm.command(name="list")
def list_() -> None:
    """List the language models that have a name, and the families whose folders work as they are."""
    from rich.table import Table

    from fedkim.injection import LLMS
    from fedkim.injection.loading import empty_model
    from fedkim.m3oe.targets import TARGETS

    table = Table(show_edge=False, pad_edge=False)
    for column in ("name", "family", "parameters", "licence", "where it comes from"):
        table.add_column(
            column, no_wrap=column != "where it comes from", justify="right" if column == "parameters" else "left"
        )
    for name, record in LLMS.items():
        model: Any = empty_model(name)
        table.add_row(name, model.config.model_type, f"{_parameters(model):,}", record.licence, record.origin)
    console().print(table)
    families = ", ".join(sorted(set(TARGETS) - {"internlm2"}))
    print(f"\nany local folder of these families, llm.name = FOLDER: {families}")
    print("InternLM2 and MMedLM-2: fedkim llm convert first")


@llm.command
def check(name: str, /, *, say: str | None = None) -> None:
    """Tell what a language model is and what experts on it would be, from its configuration, tokenizer and the headers of its weights.

    Args:
        name: A registered name, a folder, or a hub id that was fetched before.
        say: Also load the weights and let the model continue this text; a sound model continues it sensibly.
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    from fedkim.injection import load_llm
    from fedkim.injection.loading import empty_model, load_tokenizer
    from fedkim.m3oe.targets import TARGETS

    model: Any = empty_model(name)
    config, count = model.config, _parameters(model)
    targets = TARGETS.get(config.model_type)
    print(f"family      {config.model_type}, {config.num_hidden_layers} layers, {config.hidden_size} wide")
    print(f"parameters  {count:,}: {2 * count / 2**30:.1f} GiB in bfloat16, {4 * count / 2**30:.1f} GiB in float32")
    adapted = ", ".join(targets) if targets else "a family without a list: name layers in m3oe.targets"
    print(f"experts on  {adapted}")
    tokenizer = load_tokenizer(name)
    words = "Question: Is it?\nAnswer: Yes"
    ids = tokenizer(words, add_special_tokens=False)["input_ids"]
    same = "comes back" if tokenizer.decode(ids) == words else f"comes back as {tokenizer.decode(ids)!r}"
    print(
        f"tokenizer   {len(tokenizer):,} tokens, BOS {tokenizer.bos_token!r}, EOS {tokenizer.eos_token!r}; text {same}"
    )
    if say is not None:
        print(f"continues   {say}{_continued(load_llm(name), say)}")


@llm.command
def convert(source: Path, /, *, to: Path) -> None:
    """Convert a published InternLM2 checkpoint (MMedLM-2 is one) to the Llama layout, which needs nobody's code.

    Args:
        source: The published folder: config.json, safetensors, tokenizer.model.
        to: A new folder; llm.name takes it afterwards.
    """
    from fedkim.injection.conversion import convert_internlm2
    from fedkim.progress import progress_on

    with progress_on(sys.stderr) as progress:
        folder = convert_internlm2(source, to, progress=progress)
    print(f"written to {folder}; set llm.name to it, or look at it with: fedkim llm check {folder}")


def _parameters(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def _continued(language_model: "LanguageModel", text: str, tokens: int = 24) -> str:
    """Greedy words after a text; what the folder's ``generation_config.json`` asks for besides has no part in it."""
    import torch

    ids = [language_model.begin_token, *language_model.encode(text)]
    start = len(ids)
    with torch.no_grad():
        for _ in range(tokens):
            logits = language_model.model(input_ids=torch.tensor([ids], device=language_model.device)).logits
            ids.append(int(logits[0, -1].argmax()))
            if ids[-1] == language_model.end_token:
                break
    return str(language_model.tokenizer.decode(ids[start:], skip_special_tokens=True))
