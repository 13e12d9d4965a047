"""A SentencePiece ``tokenizer.model`` (byte-pair encoding) as a fast tokenizer, without the sentencepiece package.

The file is one protocol-buffer message; its fields are numbered in google/sentencepiece's ``sentencepiece_model.proto``:

    ModelProto       1 pieces (repeated)   2 trainer_spec       3 normalizer_spec
    pieces           1 piece               2 score              3 type
    trainer_spec     3 model_type          35 byte_fallback
    normalizer_spec  2 precompiled_charsmap  3 add_dummy_prefix  4 remove_extra_whitespaces

Merges aren't stored: SentencePiece joins whichever neighbours make the piece of the highest score. So every way to cut
a piece into two known ones is a merge, ranked by the score of what it makes.
"""

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from fedkim.errors import FedkimError

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
_BPE = 2
_SPACE = "▁"


@dataclass(frozen=True, kw_only=True)
class SentencePiece:
    """What the file holds, as far as it decides tokens."""

    pieces: tuple[tuple[str, float, int], ...]
    """Text, score and type, in the order of the ids."""
    byte_fallback: bool
    """Characters without a piece are spelled in bytes."""
    charsmap: bytes
    """Unicode normalisation in a compiled form; empty: none."""
    dummy_prefix: bool
    """A space is put in front of every text."""
    squeeze: bool
    """Spaces at the ends go, several become one."""


def read_sentencepiece(data: bytes) -> SentencePiece:
    """Parse a ``tokenizer.model``.

    Raises:
        FedkimError: damaged, or no byte-pair encoding.
    """
    pieces, trainer, normaliser = [], {}, {}
    try:
        for number, value in _fields(data):
            if number == 1:
                piece = dict(_fields(value))
                score = struct.unpack("<f", piece[2])[0] if 2 in piece else 0.0
                pieces.append((piece.get(1, b"").decode("utf-8"), score, piece.get(3, NORMAL)))
            elif number == 2:
                trainer = dict(_fields(value))
            elif number == 3:
                normaliser = dict(_fields(value))
    except (IndexError, ValueError, TypeError, struct.error):
        pieces = []
    if not pieces:
        raise FedkimError("tokenizer.model", found="no SentencePiece model that can be read", remedy="fetch it again")
    if trainer.get(3, 1) != _BPE:
        raise FedkimError(
            "tokenizer.model",
            found="a SentencePiece model that is no byte-pair encoding",
            expected="one, as InternLM2's is",
        )
    return SentencePiece(
        pieces=tuple(pieces),
        byte_fallback=bool(trainer.get(35, 0)),
        charsmap=normaliser.get(2, b""),
        dummy_prefix=bool(normaliser.get(3, 1)),
        squeeze=bool(normaliser.get(4, 1)),
    )


def fast_tokenizer(model: SentencePiece, renamed: Mapping[int, str] | None = None) -> Any:
    """A ``tokenizers.Tokenizer`` that cuts texts as SentencePiece does.

    One thing differs, as in every fast tokenizer: a model that puts a space in front of a text puts one behind a
    reserved word too, since the words between reserved ones are texts of their own.

    Args:
        model: the parsed file.
        renamed: other texts for some ids, as a chat model's configuration gives to reserved ones.

    Raises:
        FedkimError: reserved words with spaces in a model that puts a space in front of texts.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models

    renamed = renamed or {}
    vocabulary = {renamed.get(number, text): number for number, (text, _, _) in enumerate(model.pieces)}
    unknown = next((text for text, _, kind in model.pieces if kind == UNKNOWN), None)
    tokenizer = Tokenizer(
        models.BPE(vocabulary, _merges(model), unk_token=unknown, fuse_unk=True, byte_fallback=model.byte_fallback)
    )
    tokenizer.normalizer = _normaliser(model)
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    tokenizer.decoder = decoders.Sequence([*steps, decoders.Strip(" ", 1, 0)] if model.dummy_prefix else steps)
    for number, (text, _, kind) in enumerate(model.pieces):
        if kind not in (UNKNOWN, CONTROL, USER_DEFINED) and number not in renamed:
            continue
        word = renamed.get(number, text)
        spaced = _SPACE in word
        if spaced and model.dummy_prefix:
            raise FedkimError(
                "tokenizer.model",
                found="reserved words with spaces, and a space in front of every text",
                expected="one of the two",
                remedy="put the model's tokenizer.json beside it",
            )
        # of words with spaces the normalised text is searched, where a space is ▁
        token = AddedToken(word, normalized=spaced, special=kind != USER_DEFINED)
        (tokenizer.add_special_tokens if token.special else tokenizer.add_tokens)([token])
    return tokenizer


def _normaliser(model: SentencePiece) -> Any:
    from tokenizers import Regex, normalizers

    steps: list[Any] = [normalizers.Precompiled(model.charsmap)] if model.charsmap else []
    if model.squeeze:
        steps.append(normalizers.Replace(_SPACE, " "))  # written in a text it counts as a space
        steps += [normalizers.Replace(Regex(r"\A +| +\z"), ""), normalizers.Replace(Regex(" {2,}"), " ")]
    if model.dummy_prefix:
        steps.append(normalizers.Prepend(_SPACE))
    return normalizers.Sequence([*steps, normalizers.Replace(" ", _SPACE)])


def _merges(model: SentencePiece) -> list[tuple[str, str]]:
    """Pairs in the order in which they are joined: by the score of the piece they make, then by its cut."""
    known = {text: (score, number) for number, (text, score, kind) in enumerate(model.pieces) if kind == NORMAL}
    ranked = [
        (-score, number, cut, text)
        for text, (score, number) in known.items()
        for cut in range(1, len(text))
        if text[:cut] in known and text[cut:] in known
    ]
    return [(text[:cut], text[cut:]) for _, _, cut, text in sorted(ranked)]


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """``(number, value)`` of a message's fields: an integer, or the bytes of anything else."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, value
            continue
        if kind == 2:
            size, at = _varint(data, at)
        else:
            size = {1: 8, 5: 4}[kind] if kind in (1, 5) else len(data)  # what we don't know ends the reading below
        if at + size > len(data):
            raise ValueError("a field goes beyond the end")
        yield number, data[at : at + size]
        at += size


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at
