"""fedkim: federated knowledge injection into medical language models (FEDKIM, arXiv 2408.10276)."""

__version__ = "0.1.0"
