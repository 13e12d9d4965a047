"""Knowledge injection, the server's side: language models, alignment, the injector and its training."""

from fedkim.injection.injector import Injector
from fedkim.injection.language_model import LanguageModel
from fedkim.injection.llms import LLM, LLMS, load_llm
from fedkim.injection.route import Route
from fedkim.injection.training import InjectionReport, InjectionTrainer

__all__ = ["LLM", "LLMS", "InjectionReport", "InjectionTrainer", "Injector", "LanguageModel", "Route", "load_llm"]
