"""A run's folder, safe against crashes.

::

    runs/demo/recipe.json                     whose run it is, and its digest
    runs/demo/rounds/round-0007.safetensors   tensors, written first
    runs/demo/rounds/round-0007.json          manifest, written last: its rename commits the round
    runs/demo/rounds/halfway-0008.json        what is kept of the round in progress, with its tensors beside it
    runs/demo/events.jsonl                    one JSON object a line; numbers and short names only
    runs/demo/result.json                     written once, when the run is complete
    runs/.demo.lock                           held by the process that writes into runs/demo
"""
