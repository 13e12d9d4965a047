"""The guide's example is executed as it stands."""

import re
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from transformers import PreTrainedTokenizerFast

from tiny_models import tiny, tokens

GUIDE = Path(__file__).parents[2] / "docs" / "m3oe.md"


def test_the_ten_lines_of_the_guide_train_and_answer(tmp_path, capsys):
    example = re.search(r"```python\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    assert example is not None
    words = ["[UNK]", "Decide", "whether", "fluid", "chest", "X", "ray", "Is", "there"]
    tokenizer = Tokenizer(WordLevel({word: number for number, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, unk_token="[UNK]").save_pretrained(tmp_path)
    tiny().save_pretrained(tmp_path)
    batches = [{"input_ids": tokens(), "labels": tokens()}] * 3
    names = {"path": str(tmp_path), "batches": batches}
    exec(compile(example.group(1), str(GUIDE), "exec"), names)
    model = names["model"]
    assert capsys.readouterr().out.strip()
    assert all(p.abs().max() > 0 for name, p in model.named_parameters() if "m3oe_B" in name)
    weights = model.route(**names["effusion"])
    torch.testing.assert_close(weights.sum(), torch.tensor(1.0))
    with pytest.raises(ValueError, match="doesn't fit the batch"), model.using(weights.expand(2, -1)):
        model(tokens(3))
