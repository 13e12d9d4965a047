"""Knowledge extraction, the site's side: encoders and decoders, their local training, their scores."""

from fedkim.extraction.extractor import Extractor, owned_components
from fedkim.extraction.scoring import predict_proba
from fedkim.extraction.training import train_site

__all__ = ["Extractor", "owned_components", "predict_proba", "train_site"]
