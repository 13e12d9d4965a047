"""How the models beside this file were made, once, with sentencepiece 0.2.3; the tests read them and never run this.

pip install --target DIR sentencepiece==0.2.3; PYTHONPATH=DIR python tests/injection/tokenizers/make.py
"""

import io
import json
import tempfile
from pathlib import Path

import sentencepiece

HERE = Path(__file__).parent
CORPUS = [
    *(
        "Question: Does this image show evidence of the finding? Answer: Yes",
        "Answer: No",
        "aaaa aaa aa a",
        "    x  = 1",
    ),
    *(Path(__file__).parents[3] / "README.md").read_text(encoding="utf-8").splitlines()[:120],
    *(Path(__file__).parents[3] / "docs" / "architecture.md").read_text(encoding="utf-8").splitlines(),
]
TEXTS = [
    "", "Yes", " Yes", "  two  spaces  ", "Question: Is it?\nAnswer:", "Answer: No", "rather middling", "aaaaaaa",
    "café naïve ﬁne ２", "胸部X射线", "heart 🫀 rate 120/min", "tab\there", "line\n\n\nlines", "a [RESERVED_0] b", "▁",
    "HOSPITAL hospitals", "0.0001 mg/dL", "language model", "e\u0301", "\x00\x01", "x" * 40, " ", "   ",
]  # fmt: skip
RULES = "FB01\t66 69\nFF12\t32\n9\t20\n65 301\tE9\n"
"""ﬁ becomes fi, a full-width 2 a 2, a tab a space, a composed é one character."""
VARIANTS = {
    "plain": {"normalization_rule_name": "identity", "add_dummy_prefix": False, "remove_extra_whitespaces": False},
    "prefixed": {"normalization_rule_name": "identity", "add_dummy_prefix": True, "remove_extra_whitespaces": False},
    "squeezed": {"normalization_rule_tsv": "RULES", "add_dummy_prefix": True, "remove_extra_whitespaces": True},
}

if __name__ == "__main__":
    expected = {}
    rules = Path(tempfile.mkdtemp()) / "rules.tsv"
    rules.write_text(RULES, encoding="utf-8")
    for name, settings in VARIANTS.items():
        settings = {key: str(rules) if value == "RULES" else value for key, value in settings.items()}
        written = io.BytesIO()
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(CORPUS),
            model_writer=written,
            model_type="bpe",
            vocab_size=500,
            byte_fallback=True,
            character_coverage=0.99,
            max_sentencepiece_length=12,
            user_defined_symbols=["[RESERVED_0]"],
            control_symbols=["[RESERVED_1]"],
            hard_vocab_limit=False,
            minloglevel=2,
            **settings,
        )
        (HERE / f"{name}.model").write_bytes(written.getvalue())
        model = sentencepiece.SentencePieceProcessor(model_proto=written.getvalue())
        ids = {text: model.encode(text) for text in TEXTS if name == "plain" or "RESERVED" not in text}
        expected[name] = {
            "pieces": model.get_piece_size(),
            "ids": ids,
            "decoded": {text: model.decode(numbers) for text, numbers in ids.items()},
        }
    (HERE / "expected.json").write_text(json.dumps(expected, ensure_ascii=True) + "\n", encoding="utf-8")
