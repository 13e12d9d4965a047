"""Our reading of a tokenizer.model against what sentencepiece itself said (tokenizers/make.py)."""

import json
from pathlib import Path

import pytest

from fedkim.errors import FedkimError
from fedkim.injection.conversion.sentencepiece import USER_DEFINED, SentencePiece, fast_tokenizer, read_sentencepiece

HERE = Path(__file__).parent / "tokenizers"
EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))


def read(name):
    return read_sentencepiece((HERE / f"{name}.model").read_bytes())


@pytest.mark.parametrize("name", EXPECTED)
def test_every_text_is_cut_as_sentencepiece_cuts_it(name):
    model = read(name)
    tokenizer = fast_tokenizer(model)
    assert len(model.pieces) == EXPECTED[name]["pieces"] == tokenizer.get_vocab_size()
    for text, ids in EXPECTED[name]["ids"].items():
        assert tokenizer.encode(text, add_special_tokens=False).ids == ids, repr(text)


@pytest.mark.parametrize("name", EXPECTED)
def test_tokens_become_the_text_that_sentencepiece_makes_of_them(name):
    tokenizer = fast_tokenizer(read(name))
    for text, ids in EXPECTED[name]["ids"].items():
        assert tokenizer.decode(ids, skip_special_tokens=False) == EXPECTED[name]["decoded"][text], repr(text)


def test_a_reserved_word_is_one_token_wherever_it_stands():
    tokenizer = fast_tokenizer(read("plain"))
    (number,) = (n for n, (_, _, kind) in enumerate(read("plain").pieces) if kind == USER_DEFINED)
    assert EXPECTED["plain"]["ids"]["a [RESERVED_0] b"].count(number) == 1
    assert tokenizer.encode("x[RESERVED_0]x", add_special_tokens=False).ids.count(number) == 1


def test_a_renamed_reserved_word_keeps_its_id():
    tokenizer = fast_tokenizer(read("plain"), {4: "<|im_end|>"})
    assert tokenizer.encode("<|im_end|>", add_special_tokens=False).ids == [4]
    assert tokenizer.token_to_id("[RESERVED_0]") is None


def test_a_damaged_file_is_refused_in_one_line():
    data = (HERE / "plain.model").read_bytes()
    for broken in (b"", data[: len(data) // 2], b"\xff" * 40, b"not a model at all", data[:-3]):
        with pytest.raises(FedkimError, match=r"tokenizer\.model, found no SentencePiece model that can be read"):
            read_sentencepiece(broken)


def test_a_unigram_model_is_refused():
    piece = b"\x0a\x01a"  # field 1, one byte of text
    unigram = b"\x0a" + bytes([len(piece)]) + piece
    with pytest.raises(FedkimError, match="no byte-pair encoding"):
        read_sentencepiece(unigram)


def test_reserved_words_with_spaces_need_a_model_that_adds_none():
    pieces = (("<unk>", 0.0, 2), ("▁▁", 0.0, USER_DEFINED), ("a", -1.0, 1), ("▁", -2.0, 1))
    model = {"pieces": pieces, "byte_fallback": False, "charsmap": b"", "squeeze": False}
    tokenizer = fast_tokenizer(SentencePiece(**model, dummy_prefix=False))
    assert tokenizer.encode("a  a a", add_special_tokens=False).ids == [2, 1, 2, 3, 2]
    with pytest.raises(FedkimError, match=r"reserved words with spaces.* tokenizer\.json"):
        fast_tokenizer(SentencePiece(**model, dummy_prefix=True))
