"""Build a module whose first weights depend on a generator alone, so that every site and the server start alike."""

import math
import threading
from collections.abc import Callable

import torch
from torch import nn

from fedkim.errors import FedkimError

_BUILDING = threading.Lock()
_NORMS = (nn.GroupNorm, nn.LayerNorm, nn.RMSNorm, nn.modules.instancenorm._InstanceNorm)
_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)


def build(make: Callable[[], nn.Module], generator: torch.Generator) -> nn.Module:
    """The module that ``make`` gives, on the CPU, with weights drawn from ``generator`` and from nothing else.

    Layers draw their default weights from torch's global generator, which sites that train side by side in threads
    would share. The module is therefore made without storage (nothing is drawn) and filled by :func:`initialise`: weights that its
    constructor sets or loads are lost.
    """
    with _BUILDING:  # torch keeps the current default device in a global
        with torch.device("meta"):
            module = make()
        if any(True for _ in module.buffers()):  # constants computed by the constructor: they need real storage
            with torch.random.fork_rng(devices=[]):
                module = make()
        else:
            module = module.to_empty(device="cpu")
    initialise(module, generator)
    return module


@torch.no_grad()
def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every parameter anew, in the order of the module's tree.

    Convolutions He-normal (He et al. 2015), linear maps uniform in ±1/√fan_in, biases 0, norms 1 and 0, and bare
    parameters (positions, class tokens, latent queries) normal with standard deviation 0.02.

    Raises:
        FedkimError: a batch norm: its running statistics are no weights, and sites with other patients can't share them. A dropout:
            it draws from torch's global generator, which sites that train side by side share.
    """
    for part in module.modules():
        if isinstance(part, nn.modules.batchnorm._BatchNorm):
            raise FedkimError(
                f"module {type(module).__name__}",
                found=type(part).__name__,
                expected="GroupNorm, LayerNorm or RMSNorm: running statistics aren't weights that a federation averages",
            )
        if _draws(part):
            raise FedkimError(
                f"module {type(module).__name__}",
                found=f"{type(part).__name__} with dropout" if hasattr(part, "dropout") else type(part).__name__,
                expected="none: its masks would depend on how many sites train side by side",
                remedy="extraction.dropout thins features with a generator of its own",
            )
        for name, parameter in part.named_parameters(recurse=False):
            if isinstance(part, _NORMS):
                parameter.fill_(1.0 if name == "weight" else 0.0)
            elif name == "bias":
                parameter.zero_()
            elif isinstance(part, _CONVOLUTIONS):
                nn.init.kaiming_normal_(parameter, nonlinearity="relu", generator=generator)
            elif isinstance(part, nn.Linear):
                bound = 1 / math.sqrt(part.in_features)
                nn.init.uniform_(parameter, -bound, bound, generator=generator)
            else:
                nn.init.normal_(parameter, std=0.02, generator=generator)


def _draws(part: nn.Module) -> bool:
    """Whether a layer of torch's draws from the global generator in training."""
    if isinstance(part, nn.modules.dropout._DropoutNd):
        return part.p > 0
    if isinstance(part, nn.RNNBase):
        return part.dropout > 0 and part.num_layers > 1  # it stands between layers
    if isinstance(part, nn.MultiheadAttention):
        return part.dropout > 0
    return isinstance(part, nn.RReLU)
