"""Evidence: what the sites' aggregated decoders make of an input, as soft tokens that the language model reads. Ours, not the paper's.

Shapes: B batch, k tokens of a modality, W encoder width, H the LLM's hidden size, K answers of a task, T seen tasks.
"""

import copy
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from fedkim.injection.language_model import LanguageModel
from fedkim.modalities import modalities_of
from fedkim.randomness import generator_for
from fedkim.tasks import Task

CLIP = 3.0
"""Standard deviations beyond which a decoder's margin says no more."""


class Evidence(nn.Module):
    """One token per seen task whose inputs are there: ``u_t + Σ_k z_tk · v_tk``.

    z are the decoder's margins (logit of each answer less that of the first), in standard deviations over the public inputs. u
    begins as the mean embedding of the task's name, so that words have something to point at; u and v are trained. FEDKIM gives
    the encoders' features to the language model and drops the decoders that read them; here it gets both.

    Args:
        decoders: by seen task, ``[B, M·W] -> [B, K]`` on pooled features; copied, and never trained here.
        tasks: the records of these tasks, with a closed set of answers.
        llm: whose embedding space it is.
        seed: the run's.
    """

    def __init__(self, decoders: Mapping[str, nn.Module], tasks: Mapping[str, Task], llm: LanguageModel, *, seed: int):
        super().__init__()
        # in the order in which decoders read them
        self.inputs = {name: modalities_of([tasks[name]]) for name in decoders}
        self.decoder = nn.ModuleDict({name: copy.deepcopy(one) for name, one in decoders.items()}).requires_grad_(False)
        self.name, self.direction = nn.ParameterDict(), nn.ParameterDict()
        deviation = llm.embedding_norm() / llm.hidden_size**0.5
        for name in decoders:
            margins = len(tasks[name].answers or ()) - 1
            words = llm.embed(name.replace("_", " ")).detach().float().mean(0)
            generator = generator_for(seed, "evidence", name)
            drawn = torch.randn(margins, llm.hidden_size, generator=generator) * deviation
            self.name[name] = nn.Parameter(words * (deviation / words.std()))
            self.direction[name] = nn.Parameter(drawn.to(words.device))
            self.register_buffer(f"center_{name}", torch.zeros(margins))
            self.register_buffer(f"spread_{name}", torch.ones(margins))

    def learned(self) -> dict[str, nn.Parameter]:
        """What injection trains, by name."""
        return {name: p for name, p in self.named_parameters() if p.requires_grad}

    def constants(self) -> dict[str, Tensor]:
        """What it is given anew each round, by name: the decoders and the constants in front of them."""
        frozen: dict[str, Tensor] = {name: p for name, p in self.named_parameters() if not p.requires_grad}
        return frozen | dict(self.named_buffers())

    @torch.no_grad()
    def hear(self, decoders: Mapping[str, Tensor], features: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Take a round's decoders, and fit the constants to its features of the public inputs.

        Args:
            decoders: their weights, ``<task>.…``.
            features: of the public inputs ``[n, k, W]``, by task and modality.
        """
        self.decoder.load_state_dict({key: decoders[key] for key in self.decoder.state_dict()})
        for name, encoded in features.items():
            margins = self._margins(name, encoded)
            getattr(self, f"center_{name}").copy_(margins.mean(0))
            getattr(self, f"spread_{name}").copy_(margins.std(0).clamp_min(1e-3))

    def forward(self, features: Mapping[str, Tensor]) -> Tensor | None:
        """``[B, k, W]`` by modality -> ``[B, T, H]``, of the tasks whose inputs are all there; None if there is none."""
        tokens = []
        for name, inputs in self.inputs.items():
            if any(modality not in features for modality in inputs):
                continue
            z = (self._margins(name, features) - getattr(self, f"center_{name}")) / getattr(self, f"spread_{name}")
            tokens.append(self.name[name] + z.clamp(-CLIP, CLIP) @ self.direction[name])
        return torch.stack(tokens, dim=1) if tokens else None

    def _margins(self, task: str, features: Mapping[str, Tensor]) -> Tensor:
        """``[B, K − 1]``, in float32."""
        pooled = torch.cat([features[modality].float().mean(1) for modality in self.inputs[task]], dim=1)
        logits = self.decoder[task](pooled)
        return logits[:, 1:] - logits[:, :1]
