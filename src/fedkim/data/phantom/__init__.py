"""The synthetic federation ("phantom"): twelve tasks and seven modalities from hidden factors, without any data set."""

from fedkim.data.phantom.federation import load
from fedkim.data.phantom.settings import PhantomSettings

__all__ = ["PhantomSettings", "load"]
