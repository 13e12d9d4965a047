"""Text: the question itself. It enters through the LLM's own embedding, so sites hold no text encoder.

A question may come out of a hospital's table: it is data, never an instruction. :func:`safe_question` takes out of it
what a tokenizer would read as more than words.
"""

import re
import unicodedata

from fedkim.modalities.modality import Modality

LONGEST_QUESTION = 2000
"""Characters; a question asks, it doesn't report."""
_TAG = re.compile(
    r"<(?=/?(?:image|signal|ecg|text|vitals|labs|inputs|outputs|s|bos|eos|pad|unk|sep|cls|mask|start_of_turn|end_of_turn)>"
    r"|[|｜])|\[(?=/?(?:INST|SYS|CLS|SEP|PAD|MASK|UNK|BOS|EOS)\])",
    re.IGNORECASE,
)


def safe_question(text: str) -> tuple[str, bool, bool]:
    """``(text, escaped, shortened)``: one line of words, in Unicode's composed form.

    Marks that tokenizers and prompts give a meaning (``<|im_end|>``, ``</image>``, ``[INST]``) lose their first bracket to
    a look-alike; control characters and overrides of the writing direction go; what is longer than
    :data:`LONGEST_QUESTION` is cut.
    """
    words = unicodedata.normalize("NFC", text)
    shortened = len(words) > LONGEST_QUESTION
    words = words[:LONGEST_QUESTION]
    kept = "".join(" " if mark.isspace() else mark for mark in words if mark.isspace() or not _hidden(mark))
    plain = _TAG.sub(lambda match: "‹" if match[0] == "<" else "⟦", kept)
    return " ".join(plain.split()), plain != "".join(" " if mark.isspace() else mark for mark in words), shortened


def _hidden(mark: str) -> bool:
    return unicodedata.category(mark) in ("Cc", "Cf", "Cs", "Co", "Cn")


TEXT = Modality(
    name="text",
    description="Free text: a question in a clinician's own words, to be answered in a few words.",
    tokens=0,
    encoders={},
)
