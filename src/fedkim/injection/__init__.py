"""Knowledge injection, the server's side: language models, alignment, the injector and its training."""

from fedkim.injection.injector import Injector
from fedkim.injection.language_model import LanguageModel
from fedkim.injection.llms import LLM, LLMS
from fedkim.injection.loading import load_llm
from fedkim.injection.soft_tokens import SoftTokens, load_encoders, write_encoders
from fedkim.injection.training import InjectionReport, InjectionTrainer
from fedkim.m3oe import Route

__all__ = [
    "LLM",
    "LLMS",
    "InjectionReport",
    "InjectionTrainer",
    "Injector",
    "LanguageModel",
    "Route",
    "SoftTokens",
    "load_encoders",
    "load_llm",
    "write_encoders",
]
