"""A language model of your own under a name for recipes: here a random Qwen2, made once in the cache."""

from pathlib import Path

from transformers import AutoTokenizer, Qwen2Config, Qwen2ForCausalLM

from fedkim.data.cache import cache_folder
from fedkim.injection import LLM, LLMS

SIZES = {
    "vocab_size": 512,
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
}


def prepare() -> Path:
    """A folder with config.json, safetensors and a tokenizer; yours may simply be there already."""
    folder = cache_folder() / "llm" / "tiny-qwen2"
    if not (folder / "model.safetensors").is_file():
        AutoTokenizer.from_pretrained(LLMS["tiny"].prepare()).save_pretrained(folder)
        Qwen2ForCausalLM(Qwen2Config(**SIZES, num_key_value_heads=2, tie_word_embeddings=True)).save_pretrained(folder)
    return folder


LLMS["tiny-qwen2"] = LLM(name="tiny-qwen2", prepare=prepare, config=SIZES)  # config: what `--check` counts with
