"""The router: from the descriptions of a task and of its modalities to the experts' weights α.

# G routes, L tokens of a description, E width of descriptions, D attention width, P experts

    β = softmax( (W_q EMB(M)) (W_k EMB(T))ᵀ / √d_k ) · W_v EMB(T)        α = softmax( MLP( masked_mean(β) ) )

The modality description M asks, the task description T answers (FEDKIM, arXiv 2408.10276, section "Adaptive Multitask
Multimodal Mixture of Experts"). One α serves every token and every adapted layer. Padding takes part in nothing: the
published code lets it into the attention and the mean, so that α depends on who shares the batch.
"""

import hashlib
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, layer_norm, linear

from fedkim.errors import FedkimError

Descriptions = Tensor | Sequence[Tensor | None]
"""One description [L, E], a padded batch [G, L, E], or a list of [L, E]; None in a list: there is none."""


class TaskModalityRouter(nn.Module):
    """Task and modality descriptions, embedded by the language model, in; α [G, P] in float32 out."""

    def __init__(
        self,
        embed_dim: int,
        num_experts: int,
        *,
        dim: int = 256,
        hidden: int = 256,
        normalise: bool = True,
        inputs: str = "both",
    ):
        super().__init__()
        self.normalise = normalise
        self.inputs = inputs
        self.query = nn.Linear(embed_dim, dim, bias=False)
        self.key = nn.Linear(embed_dim, dim, bias=False)
        self.value = nn.Linear(embed_dim, dim, bias=False)
        self.hidden = nn.Linear(dim, hidden) if hidden else None
        self.output = nn.Linear(hidden or dim, num_experts)
        self.absent = nn.Parameter(torch.randn(embed_dim))
        """Stands for the description of a sample without any modality: attention over nothing has no value."""

    def forward(
        self,
        task: Tensor,
        modality: Tensor,
        task_mask: Tensor | None = None,
        modality_mask: Tensor | None = None,
    ) -> Tensor:
        """α [G, P] from T [G, L_t, E], M [G, L_m, E] and masks [G, L] that are True on real tokens."""
        # autocast would round α; the router is too small for that to save anything
        with torch.autocast(device_type=task.device.type, enabled=False):
            task, task_mask = self._prepare(task, task_mask)
            modality, modality_mask = self._prepare(modality, modality_mask)
            if self.inputs == "task":
                modality, modality_mask = task, task_mask
            elif self.inputs == "modality":
                task, task_mask = modality, modality_mask
            query, key, value = _linear(self.query, modality), _linear(self.key, task), _linear(self.value, task)
            scores = query @ key.transpose(1, 2) / math.sqrt(query.shape[-1])  # [G, L_m, L_t]
            scores = scores.masked_fill(~task_mask[:, None, :], float("-inf"))
            beta = scores.softmax(dim=-1) @ value  # [G, L_m, D]
            real = modality_mask.unsqueeze(-1).to(beta.dtype)
            mean = (beta * real).sum(dim=1) / real.sum(dim=1)
            if self.hidden is not None:
                mean = gelu(_linear(self.hidden, mean))
            return _linear(self.output, mean).softmax(dim=-1)

    @torch.no_grad()
    def spread(
        self,
        task: Tensor,
        modality: Tensor,
        task_mask: Tensor | None = None,
        modality_mask: Tensor | None = None,
        *,
        deviation: float,
    ) -> None:
        """Set the last layer so that these G ≥ 2 descriptions start on different experts. Ours, not the paper's.

        As drawn, descriptions differ by hundredths in their logits, α starts at 1/P for all of them, every expert gets
        the same gradient times 1/P, and nothing ever tells them apart. Here the logits are centred over the descriptions, expert
        by expert, and scaled to this standard deviation; the function stays the paper's. At 0 every one of these
        descriptions starts uniform. Descriptions that are equal to the router (those of one modality, where it reads nothing else)
        stay equal.
        """
        logits = self(
            task, modality, task_mask, modality_mask
        ).log()  # up to a shift of each row, which softmax ignores
        centre = logits.mean(dim=0)
        spread = (logits - centre).std()
        scale = deviation / float(spread) if float(spread) > 1e-6 else 0.0
        weight, bias = self.output.weight, self.output.bias
        # log α is W h + b less its row's logsumexp; without the experts' common part that is its row's mean
        weight.copy_(scale * (weight - weight.mean(dim=0)))
        bias.copy_(scale * (bias - bias.mean() - (centre - centre.mean())))

    def _prepare(self, embeddings: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """In float32 (float64 stays), normalised, with the learned vector where a row has no token at all."""
        embeddings = embeddings if embeddings.dtype == torch.float64 else embeddings.float()
        if embeddings.shape[1] == 0:
            embeddings = embeddings.new_zeros(embeddings.shape[0], 1, embeddings.shape[2])
            mask = torch.zeros(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        elif mask is None:
            mask = torch.ones(embeddings.shape[:2], dtype=torch.bool, device=embeddings.device)
        mask = mask.bool()
        first = torch.arange(mask.shape[1], device=mask.device) == 0
        stands_in = ~mask.any(dim=1, keepdim=True) & first
        # zero what is masked: a NaN in padding would otherwise come through 0 · NaN
        embeddings = torch.where(mask.unsqueeze(-1), embeddings, embeddings.new_zeros(()))
        embeddings = torch.where(stands_in.unsqueeze(-1), self.absent.to(embeddings.dtype), embeddings)
        if self.normalise:
            embeddings = layer_norm(embeddings, embeddings.shape[-1:])
        return embeddings, mask | stands_in

    def digest(self) -> str:
        """Short name of this router's weights: α may be cached and compared only under the same digest."""
        whole = hashlib.sha256(f"{self.inputs}|{self.normalise}".encode())
        for name, value in sorted(self.state_dict().items()):
            whole.update(name.encode() + str(tuple(value.shape)).encode())
            whole.update(value.detach().float().cpu().contiguous().numpy().tobytes())
        return whole.hexdigest()[:16]


def _linear(layer: nn.Linear, x: Tensor) -> Tensor:
    """A linear layer in the dtype of x, whatever a `model.to(bfloat16)` did to its weights."""
    bias: Tensor | None = layer.bias
    return linear(x, layer.weight.to(x.dtype), None if bias is None else bias.to(x.dtype))


def pad_descriptions(descriptions: Descriptions, width: int, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """One padded batch [G, L, E] with its mask [G, L] from any form of :data:`Descriptions`."""
    if isinstance(descriptions, Tensor):
        batch = descriptions.unsqueeze(0) if descriptions.dim() == 2 else descriptions
        if batch.dim() != 3 or batch.shape[-1] != width:
            raise FedkimError(
                "embedded description",
                found=f"shape {list(descriptions.shape)}",
                expected=f"[tokens, {width}] or [routes, tokens, {width}]",
            )
        if mask is None:
            mask = torch.ones(batch.shape[:2], dtype=torch.bool, device=batch.device)
        mask = mask.unsqueeze(0) if mask.dim() == 1 else mask
        if mask.shape != batch.shape[:2]:
            raise FedkimError(
                "mask of a description", found=f"shape {list(mask.shape)}", expected=str(list(batch.shape[:2]))
            )
        return batch, mask.bool()
    if mask is not None:
        raise FedkimError("a list of descriptions carries its own lengths", remedy="leave the mask out")
    given = [one for one in descriptions if one is not None]
    for one in given:
        if one.dim() != 2 or one.shape[-1] != width:
            raise FedkimError("embedded description", found=f"shape {list(one.shape)}", expected=f"[tokens, {width}]")
    like = given[0] if given else torch.empty(0, width)
    longest = max((one.shape[0] for one in given), default=0) or 1
    batch = like.new_zeros(len(descriptions), longest, width)
    mask = torch.zeros(len(descriptions), longest, dtype=torch.bool, device=like.device)
    for row, description in enumerate(descriptions):
        if description is not None:
            batch[row, : description.shape[0]] = description
            mask[row, : description.shape[0]] = True
    return batch, mask
