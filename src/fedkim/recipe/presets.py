"""Presets: what a recipe is a delta on. ``fast`` is the tables' defaults, ``paper`` the paper's settings."""

from collections.abc import Mapping
from typing import Any

PRESETS: Mapping[str, Mapping[str, Mapping[str, Any]]] = {
    # Small encoders and rates that learn within minutes on two cores.
    "fast": {},
    # FEDKIM (arXiv 2408.10276), "Experimental Setups"; what it leaves open is as docs/paper.md says.
    "paper": {
        "data": {"image_size": 224},
        "federation": {"sites": 5, "rounds": 10, "participation": 1.0, "norm_limit": 0.0},
        "extraction": {
            "encoders": {"image": "deit-tiny"},
            # DeiT-tiny gives 196 patches and two special tokens; ECG and ICU groups as in the published encoders
            "tokens": {"image": 198, "signal": 12, "vitals": 24, "labs": 24, "inputs": 24, "outputs": 24},
            "learning_rate": 1e-4,
            "batch_size": 64,
            "local_epochs": 1,
            "augment": False,
            "balanced": False,
        },
        "llm": {"name": "mmedlm2"},
        "m3oe": {
            "experts": 12,
            "rank": 8,
            "gate_scale": "paper",
            "targets": ["paper"],
            "router_width": 0,
            "router_normalise": False,
            "entropy_weight": 0.0,
        },
        "injection": {
            "learning_rate": 5e-4,
            "router_learning_rate": 5e-4,
            "alignment_learning_rate": 0.0,  # the adapters'
            # no rate is given for the encoders on the server; the sites' own keeps what they learned
            "encoder_learning_rate": 1e-4,
            "balanced": False,
        },
    },
}
