import os
import shutil
from pathlib import Path

import pytest

from fedkim.data.sources import pack_check


def test_an_empty_folder_lacks_every_part(tmp_path):
    findings = pack_check.check(tmp_path)
    parts = {finding.file for finding in findings.errors}
    assert {"cxr/nih", "text/ecgqa", "text/pubmedqa"} <= parts
    assert all(str(finding) for finding in findings)


@pytest.mark.data_pack
def test_the_real_pack_is_whole_and_a_copy_without_a_film_isnt(tmp_path):
    if not os.environ.get("FEDKIM_DATA_PACK"):
        pytest.skip(
            "SKIPPED, NOT RUN: needs the real-data pack; set FEDKIM_DATA_PACK to its folder (docs/data/pack.md)"
        )
    root = Path(os.environ["FEDKIM_DATA_PACK"])
    findings = pack_check.check(root)
    assert findings.errors == []
    assert not [finding for finding in findings if finding.code == "W-COUNT"]
    assert len([finding for finding in findings if finding.code == "I-PACK-FOLD"]) == 5
    copy = tmp_path / "pack"
    shutil.copytree(root / "cxr" / "nih", copy / "cxr" / "nih", ignore=shutil.ignore_patterns("00000061_012.png"))
    codes = [finding.code for finding in pack_check.check(copy)]
    assert "E-PACK-FILES" in codes
