"""Tiny random language models of every family, and adapted ones whose experts and router do something."""

import copy

import torch
from peft import PeftModel, get_peft_model
from torch import Tensor
from transformers import (
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PhiConfig,
    PhiForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from fedkim.m3oe import M3OEConfig

VOCABULARY, WIDTH, EXPERTS, RANK = 64, 32, 3, 2
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2}
_GEMMA = {**_GROUPED, "head_dim": 8, "query_pre_attn_scalar": 8}
FAMILIES = {
    "llama": (LlamaForCausalLM, LlamaConfig, _GROUPED),
    "mistral": (MistralForCausalLM, MistralConfig, _GROUPED),
    "qwen2": (Qwen2ForCausalLM, Qwen2Config, _GROUPED),
    "qwen3": (Qwen3ForCausalLM, Qwen3Config, {**_GROUPED, "head_dim": 8}),
    "gemma": (GemmaForCausalLM, GemmaConfig, {**_GROUPED, "head_dim": 8}),
    "gemma2": (Gemma2ForCausalLM, Gemma2Config, _GEMMA),
    "gemma3_text": (Gemma3ForCausalLM, Gemma3TextConfig, {**_GEMMA, "sliding_window": 5}),
    "gpt_neox": (GPTNeoXForCausalLM, GPTNeoXConfig, _SHAPE),
    "phi": (PhiForCausalLM, PhiConfig, _GROUPED),
    "phi3": (Phi3ForCausalLM, Phi3Config, _GROUPED),
}


def tiny(family: str = "llama", seed: int = 0, **changes: object) -> PreTrainedModel:
    """A random causal language model of the family, in evaluation mode."""
    torch.manual_seed(seed)
    model, config, shape = FAMILIES[family]
    return model(config(**{**shape, **changes})).eval()


def adapted(
    base: PreTrainedModel | None = None, *, awake: bool = True, adapter: str = "default", **settings: object
) -> PeftModel:
    """An M3OE model around a copy of the base; ``awake``: B is random instead of zero, so that the route matters."""
    torch.manual_seed(1)
    settings = {
        "r": RANK,
        "num_experts": EXPERTS,
        "router_dim": 16,
        "router_hidden": 16,
        "lora_dropout": 0.0,
        **settings,
    }
    base = tiny() if base is None else copy.deepcopy(base)
    model = get_peft_model(base, M3OEConfig(task_type="CAUSAL_LM", **settings), adapter_name=adapter)
    if awake:
        waken(model)
    return model.eval()


def waken(model: PeftModel, seed: int = 2) -> None:
    """Random B, and a router far enough from even to be seen."""
    torch.manual_seed(seed)
    for name, parameter in model.named_parameters():
        if "m3oe_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
        if "m3oe_router" in name and "output" in name:
            torch.nn.init.normal_(parameter, std=2.0)


def tokens(batch: int = 2, length: int = 7, seed: int = 3) -> Tensor:
    """Random token ids [batch, length] above the special ones."""
    return torch.randint(3, VOCABULARY, (batch, length), generator=torch.Generator().manual_seed(seed))


def description(length: int, seed: int) -> Tensor:
    """Stand-in for an embedded description [length, WIDTH]."""
    return torch.randn(length, WIDTH, generator=torch.Generator().manual_seed(seed))


def some_route(num_experts: int = EXPERTS, seed: int = 4) -> Tensor:
    """A route [num_experts] that is neither even nor one expert."""
    return torch.rand(num_experts, generator=torch.Generator().manual_seed(seed)).mul(3).softmax(-1)
