"""Checkpoints in other layouts, made once into a folder that ``AutoModelForCausalLM`` opens without anybody's code."""

from fedkim.injection.conversion.gguf import convert_gguf
from fedkim.injection.conversion.internlm2_folder import convert_internlm2

__all__ = ["convert_gguf", "convert_internlm2"]
