"""``python -m fedkim.data.phantom [SEED …]``: the acceptance table of the synthetic federation, computed now.

With several seeds a line of progress each, then the table over seeds. ``--into FILE.json`` keeps the figures of all seeds.
"""

import argparse
import json
from pathlib import Path

from fedkim.data.phantom.acceptance import acceptance
from fedkim.data.phantom.settings import PhantomSettings
from fedkim.data.phantom.table import as_record, as_text, over_seeds

STAYS = 6000
"""Stays fitted and measured: the best of 52 numbers at four ρ is a largest of many, and on 1,800 stays its noise is ± .03."""

if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m fedkim.data.phantom", description=__doc__)
    parser.add_argument("seeds", metavar="SEED", type=int, nargs="*", default=[0])
    parser.add_argument("--into", metavar="FILE", type=Path)
    arguments = parser.parse_args()
    records = []
    for seed in arguments.seeds:
        table = acceptance(PhantomSettings(seed=seed, icu_patients=STAYS))
        records.append(as_record(table))
        if len(arguments.seeds) == 1:
            print(as_text(table))
        else:
            print(f"seed {seed}: {table.seconds:.0f} s", flush=True)
        if arguments.into:
            text = json.dumps({"generator": records[-1]["generator"], "seeds": records}, indent=1)
            arguments.into.write_text(text + "\n", encoding="utf-8")
    if len(records) > 1:
        print(over_seeds(records))
