"""LoRA-M3OE as a PEFT method: a mixture of LoRA experts routed by task and modality, in the time of one LoRA.

Importing this package registers the method with PEFT; ``peft.get_peft_model(llm, M3OEConfig(...))`` does the rest.
"""

from fedkim.m3oe.config import M3OEConfig
from fedkim.m3oe.health import balance_penalty, nearest_route, router_health, routes_record
from fedkim.m3oe.layer import M3OELinear
from fedkim.m3oe.route import Route
from fedkim.m3oe.router import TaskModalityRouter
from fedkim.m3oe.tuner import M3OEModel

__all__ = [
    "M3OEConfig",
    "M3OELinear",
    "M3OEModel",
    "Route",
    "TaskModalityRouter",
    "balance_penalty",
    "nearest_route",
    "router_health",
    "routes_record",
]
