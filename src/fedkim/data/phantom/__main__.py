"""``python -m fedkim.data.phantom [SEED]``: the acceptance table of the synthetic federation, computed now."""

import sys

from fedkim.data.phantom.acceptance import acceptance
from fedkim.data.phantom.settings import PhantomSettings
from fedkim.data.phantom.table import as_text

if __name__ == "__main__":
    seed = int(sys.argv[1]) if len(sys.argv) > 1 else 0
    print(as_text(acceptance(PhantomSettings(seed=seed))))
