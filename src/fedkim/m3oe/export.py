"""One route leaves the house: as a stock PEFT LoRA of rank P·r, or folded into a dense model.

A route depends on descriptions only, so the mixture of one (task, modalities) **is** one ordinary LoRA:
``lora_A = A``, ``lora_B = B ∘ g``, rank = alpha = P·r. Exact, no decomposition; any server that takes LoRA adapters
serves it without this package (vLLM needs ``--max-lora-rank`` of at least P·r).
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from peft import LoraConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import ModulesToSaveWrapper
from safetensors.torch import save_file
from torch import Tensor, nn

from fedkim.errors import FedkimError
from fedkim.m3oe.config import M3OEConfig
from fedkim.m3oe.layer import M3OELayer
from fedkim.m3oe.routing import Gate

if TYPE_CHECKING:
    from fedkim.m3oe.tuner import M3OEModel


def lora_state_dict(
    model: "M3OEModel", adapter: str, gate: Gate, dtype: torch.dtype | None = None
) -> dict[str, Tensor]:
    """PEFT's names for a LoRA, ``base_model.model.<layer>.lora_A.weight`` [P·r, in] and ``lora_B.weight`` [out, P·r]."""
    state: dict[str, Tensor] = {}
    for name, layer in model.layers():
        if adapter in layer.m3oe_A:
            down, up = layer.factors(adapter, gate)
            state[f"base_model.model.{name}.lora_A.weight"] = _packed(down, dtype)
            state[f"base_model.model.{name}.lora_B.weight"] = _packed(up, dtype)
    return state


def export_lora(
    model: "M3OEModel",
    path: str | Path,
    adapter: str,
    gate: Gate,
    dtype: torch.dtype | None = None,
    base_model: str | None = None,
) -> Path:
    """Write ``adapter_config.json``, ``adapter_model.safetensors`` and, for the reader, ``route.json``.

    ``base_model`` is what the configuration says the LoRA belongs to; by default where the model was loaded from.
    """
    config: M3OEConfig = model.peft_config[adapter]
    if config.modules_to_save:
        raise FedkimError(
            "a LoRA export holds no whole modules",
            found=f"modules_to_save {sorted(config.modules_to_save)}",
            remedy="export a dense model",
        )
    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    rank = config.num_experts * config.r
    LoraConfig(
        task_type=config.task_type,
        base_model_name_or_path=base_model or config.base_model_name_or_path,
        r=rank,
        lora_alpha=rank,
        lora_dropout=0.0,
        bias="none",
        target_modules=_target_names(model, adapter),
        inference_mode=True,
    ).save_pretrained(str(folder))
    save_file(
        lora_state_dict(model, adapter, gate, dtype), folder / "adapter_model.safetensors", metadata={"format": "pt"}
    )
    record: dict[str, Any] = {"weights": gate.weights[0].tolist(), "experts": config.num_experts, "rank": config.r}
    record["router"] = model.router_digest(adapter)
    (folder / "route.json").write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return folder


def export_dense(model: "M3OEModel", path: str | Path) -> Path:
    """Write the language model with the merged route in its weights, under its original names.

    Call it inside ``with model.merged(weights):``; the folder opens with ``AutoModelForCausalLM.from_pretrained``. A module
    of ``modules_to_save`` is written as the active adapter trained it.

    Raises:
        FedkimError: no route is merged, the adapters are disabled, the language model holds an adapter of its own, its
            tensors aren't those that would be loaded, or ``path`` can't be written to.
    """
    first = next(model.layers(), None)
    if first is None or not first[1].merged:
        raise FedkimError("no route is merged", remedy="write `with model.merged(weights): model.export_dense(path)`")
    if first[1].disable_adapters:
        raise FedkimError(
            "a dense export", found="disabled adapters", remedy="leave `with model.disable_adapter():` first"
        )
    _require_plain_base(model)
    state = _dense_state(model)
    _require_loadable(model.model, state)
    folder = Path(path)
    cast(Any, model.model).save_pretrained(folder, state_dict=state)
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):  # transformers only logs it
        raise FedkimError(f"target {folder}", found="no model written", expected="a folder that can be written to")
    return folder


def _require_plain_base(model: "M3OEModel") -> None:
    """Transformers would write a language model that holds an adapter as that adapter alone, without weights or configuration."""
    strangers = [
        name
        for name, module in model.model.named_modules()
        if isinstance(module, BaseTunerLayer) and not isinstance(module, M3OELayer)
    ]
    if strangers or getattr(model.model, "_hf_peft_config_loaded", False):
        raise FedkimError(
            "a dense export",
            found="a language model that holds an adapter of its own" + (f" ({strangers[0]})" if strangers else ""),
            remedy="merge that adapter into the language model before M3OE is put on it",
        )


def _dense_state(model: "M3OEModel") -> dict[str, Tensor]:
    """The language model's tensors by their original names, with trained whole modules in the place of the first ones."""
    state = {
        name.replace(".base_layer.", "."): value
        for name, value in model.model.state_dict().items()
        if f".{model.prefix}" not in name
    }
    for place, wrapper in model.model.named_modules():
        if isinstance(wrapper, ModulesToSaveWrapper):
            active = wrapper.active_adapters  # one at most, says PEFT
            used = cast(nn.Module, wrapper.modules_to_save[active[0]] if active else wrapper.original_module)
            state = {name: value for name, value in state.items() if not name.startswith(f"{place}.")}
            state.update({f"{place}.{name}": value for name, value in used.state_dict().items()})
    return state


def _require_loadable(model: nn.Module, state: dict[str, Tensor]) -> None:
    """What doesn't fit the architecture would be left out on loading, with a warning at most, and random weights be taken."""
    with torch.device("meta"):
        empty = type(model)(model.config)
    expected = {name: tuple(value.shape) for name, value in empty.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in state.items()}
    if odd := sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)):
        raise FedkimError(
            "a dense export",
            found=f"{len(odd)} tensors that are none of {type(model).__name__}'s, or of another shape, such as {odd[0]}",
            expected="the tensors of a fresh model of the same configuration",
            remedy="export the route as a LoRA",
        )
    shared: dict[int, str] = {}
    for name, value in empty.named_parameters(remove_duplicate=False):
        other = shared.setdefault(id(value), name)
        if not torch.equal(state[name], state[other]):
            raise FedkimError(
                f"{name} and {other} share a weight, and were trained apart",
                remedy="load the language model with tie_word_embeddings=False and a copy of that weight",
            )


def _packed(value: Tensor, dtype: torch.dtype | None) -> Tensor:
    return value.to(device="cpu", dtype=dtype or torch.float32, copy=True).contiguous()


def _target_names(model: "M3OEModel", adapter: str) -> list[str]:
    """Last components (``q_proj``) where they name exactly the adapted layers, as servers expect; else full names."""
    adapted = [name for name, layer in model.layers() if adapter in layer.m3oe_A]
    short = {name.rsplit(".", 1)[-1] for name in adapted}
    wrapped = {name for name, _ in model.layers()}
    named = [
        name
        for name, _ in model.model.named_modules()
        if name.rsplit(".", 1)[-1] in short and not any(name.startswith(f"{outer}.") for outer in wrapped)
    ]
    return sorted(short) if sorted(named) == sorted(adapted) else sorted(adapted)
