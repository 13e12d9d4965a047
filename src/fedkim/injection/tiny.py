"""A random two-layer Llama with a small real tokenizer: fast enough for tests, knows nothing."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from fedkim.injection.conversion.folder import appearing_once
from fedkim.injection.quiet import quiet_transformers

_SENTENCES = (
    "Question: Does this image show evidence of the finding? Answer: Yes",
    "Question: Based on these clinical features, will it occur in this patient? Answer: No",
    "Is the given ECG abnormal? A task description and a modality description in plain English.",
)


def make_tiny(folder: Path, shape: Mapping[str, Any]) -> Path:
    """Write a model of that shape to ``folder`` (in the Hugging Face layout) unless it is there; weights from a fixed seed."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    if (folder / "model.safetensors").is_file():
        return folder
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    specials = ["<s>", "</s>", "<pad>"]
    tokenizer.train_from_iterator(
        [sentence for sentence in _SENTENCES for _ in range(3)],
        trainers.BpeTrainer(
            vocab_size=512,
            special_tokens=specials,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    wrapped = PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>")
    config = LlamaConfig(**shape, bos_token_id=0, eos_token_id=1, pad_token_id=2)
    generator = torch.Generator().manual_seed(0)
    with torch.random.fork_rng(devices=[]):  # its first weights, drawn over below
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        for name, parameter in sorted(model.named_parameters()):
            if parameter.ndim > 1:  # a trained embedding's scale, so that alignment meets realistic norms
                parameter.normal_(0.0, 0.14 if "embed" in name else parameter.shape[1] ** -0.5, generator=generator)
    with quiet_transformers(), appearing_once(folder, "model.safetensors") as scratch:
        model.save_pretrained(scratch)
        wrapped.save_pretrained(scratch)
    return folder
