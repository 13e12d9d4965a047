"""The server's optimiser: Adam over the injector's parameters, each group at its own rate, on one schedule for the whole run."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from fedkim.errors import FedkimError
from fedkim.injection.injector import Injector
from fedkim.recipe import Injection
from fedkim.state import State


class ServerOptimizer:
    """Trains adapters, alignment, router, evidence and, unless they are frozen, encoders.

    Args:
        injector: whose parameters; encoders that aren't to be trained stop requiring gradients.
        settings: rates, warm-up, schedule and clipping.
        total_steps: of the whole run, for the schedule.

    Raises:
        FedkimError: there is nothing to train.
    """

    def __init__(self, injector: Injector, settings: Injection, *, total_steps: int):
        self.settings, self.total_steps = settings, total_steps
        groups = injector.parameters()
        if not settings.train_encoders:
            for parameter in groups.pop("encoder").values():
                parameter.requires_grad_(False)
        self.groups: Mapping[str, Mapping[str, nn.Parameter]] = {
            group: named for group, named in groups.items() if named
        }
        """Parameters by group and name."""
        self.parameters: Sequence[nn.Parameter] = [p for named in self.groups.values() for p in named.values()]
        """All of them, in the order of the groups."""
        if not self.parameters:
            raise FedkimError("injection", found="nothing to train", expected="experts, alignment or encoders")
        alignment = settings.alignment_learning_rate or settings.learning_rate
        rates = {
            "adapter": settings.learning_rate,
            "router": settings.router_learning_rate,
            "align": alignment,
            "evidence": alignment,
            "encoder": settings.encoder_learning_rate,
        }
        self.adam = torch.optim.Adam(
            [
                {"params": list(named.values()), "lr": rates[group], "group": group}
                for group, named in self.groups.items()
            ],
            fused=True,
        )
        self._rates = [group["lr"] for group in self.adam.param_groups]

    def step(self, number: int) -> None:
        """Take the run's step ``number`` (from 0) along the parameters' ``grad``, clipped, and drop the gradients."""
        if self.settings.gradient_clip:
            nn.utils.clip_grad_norm_(self.parameters, self.settings.gradient_clip)
        factor = self.factor(number)
        for group, rate in zip(self.adam.param_groups, self._rates):
            group["lr"] = rate * factor
        self.adam.step()
        self.adam.zero_grad(set_to_none=True)

    def factor(self, number: int) -> float:
        """What the rates are multiplied by at a step: rising through the warm-up, then falling to 0 or level."""
        warm = max(1, round(self.settings.warmup * self.total_steps))
        if number < warm:
            return (number + 1) / warm
        if self.settings.schedule == "constant":
            return 1.0
        return (self.total_steps - number) / max(1, self.total_steps - warm)

    def forget(self, group: str | None = None) -> None:
        """Drop the moments of a group, or of all: they are twice as large as the parameters."""
        for parameter in self.parameters if group is None else self.groups.get(group, {}).values():
            self.adam.state.pop(parameter, None)

    def tensors(self) -> State:
        """The moments by parameter name, for a bit-identical resume."""
        tensors = {}
        for group, named in self.groups.items():
            for name, parameter in named.items():
                for moment, value in self.adam.state.get(parameter, {}).items():
                    tensors[f"{moment}.{group}.{name}"] = value
        return State(tensors)

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Take the moments back from :meth:`tensors`; a parameter without any there has none afterwards."""
        for group, named in self.groups.items():
            for name, parameter in named.items():
                moments = {m: state.get(f"{m}.{group}.{name}") for m in ("exp_avg", "exp_avg_sq", "step")}
                self.adam.state.pop(parameter, None)
                if moments["step"] is not None:
                    self.adam.state[parameter] = {
                        moment: value.clone().to(parameter.device)  # the fused step needs its counter there too
                        for moment, value in moments.items()
                        if value is not None
                    }
