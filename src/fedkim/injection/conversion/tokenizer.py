"""InternLM2's tokenizer for everybody: the published one needs its authors' code, this one is data alone."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fedkim.errors import FedkimError
from fedkim.injection.conversion.sentencepiece import fast_tokenizer, read_sentencepiece

_ROLES = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "</s>"}
"""Special tokens, and what they are where the configuration doesn't say."""


def write_tokenizer(source: Path, folder: Path, *, vocabulary: int) -> None:
    """Write ``tokenizer.json`` and its configuration to ``folder``, which ``AutoTokenizer`` opens as they are.

    The published fast tokenizer is taken where there is one, else ``tokenizer.model`` is translated.

    Args:
        source: the published folder.
        folder: where the new files go.
        vocabulary: rows of the input embedding.

    Raises:
        FedkimError: no tokenizer, a damaged one, or one with more tokens than embeddings.
    """
    from tokenizers import processors
    from transformers import PreTrainedTokenizerFast

    said = _read(source / "tokenizer_config.json")
    added = _added(said.get("added_tokens_decoder") or {}, source)
    if (source / "tokenizer.json").is_file():
        tokenizer = _published(source / "tokenizer.json")
    elif (source / "tokenizer.model").is_file():
        tokenizer = _translated((source / "tokenizer.model").read_bytes(), added)
    else:
        raise FedkimError(
            f"folder {source}", found="no tokenizer.model", expected="the published tokenizer", remedy="fetch it"
        )
    roles = {role: _role(source, role, said.get(role) or default) for role, default in _ROLES.items()}
    tokens = tokenizer.get_vocab()
    absent = [text for text in roles.values() if text not in tokens]
    if absent:
        raise FedkimError("the tokenizer", found=f"no token {absent[0]!r}", expected="every special token it names")
    if max(tokens.values()) >= vocabulary:
        raise FedkimError(
            "the tokenizer", found=f"{max(tokens.values()) + 1} tokens", expected=f"at most {vocabulary} embeddings"
        )
    if said.get("add_bos_token", True):
        begin = roles["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, tokens[begin])]
        )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **roles)
    if isinstance(said.get("chat_template"), str):
        wrapped.chat_template = said["chat_template"]
    wrapped.save_pretrained(folder)
    if (source / "tokenizer.model").is_file():
        shutil.copyfile(source / "tokenizer.model", folder / "tokenizer.model")


def _published(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception as error:  # the library has no type of its own for it
        raise FedkimError(
            f"file {path}", found=f"no tokenizer ({str(error)[:120]})", remedy="fetch it again from its source"
        ) from None


def _added(said: Any, source: Path) -> dict[int, str]:
    try:
        return {int(number): _content(token) for number, token in said.items()}
    except (AttributeError, KeyError, ValueError):
        raise FedkimError(
            f"file {source / 'tokenizer_config.json'}",
            found="something else as added_tokens_decoder",
            expected="tokens by their numbers",
        ) from None


def _translated(data: bytes, added: Mapping[int, str]) -> Any:
    from tokenizers import AddedToken

    model = read_sentencepiece(data)
    own = {number: text for number, text in added.items() if number < len(model.pieces)}
    tokenizer = fast_tokenizer(model, {n: text for n, text in own.items() if text != model.pieces[n][0]})
    beyond = [text for number, text in sorted(added.items()) if number >= len(model.pieces)]
    tokenizer.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in beyond])
    return tokenizer


def _role(source: Path, role: str, token: Any) -> str:
    if not isinstance(token.get("content") if isinstance(token, Mapping) else token, str):
        raise FedkimError(
            f"file {source / 'tokenizer_config.json'}", found=f"something else as {role}", expected="a token's text"
        )
    return _content(token)


def _content(token: Any) -> str:
    """A token's text, plain or in the form of a record."""
    return str(token["content"] if isinstance(token, Mapping) else token)


def _read(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise FedkimError(str(path), found="no JSON", remedy="fetch it again") from None
    return value if isinstance(value, dict) else {}
