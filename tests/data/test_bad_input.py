"""What is wrong with a hospital's data is told word for word as the golden file says; a value never is.

``PYTHONPATH=tests python tests/data/test_bad_input.py`` writes the golden file anew: read what changed before keeping it.
"""

import atexit
import json
import shutil
import sys
import tempfile
from functools import cache
from pathlib import Path

import pytest
from bad_input.cases import CANARY, CASES

from fedkim.data import hospital
from fedkim.errors import FedkimError
from hospital_files import PATIENT, write_hospital

GOLDEN = Path(__file__).parent / "golden" / "bad_input.json"


@cache
def in_order():
    """A hospital without a fault, written once."""
    folder = Path(tempfile.mkdtemp(prefix="fedkim-hospital-"))
    atexit.register(shutil.rmtree, folder)
    write_hospital(folder)
    return folder


def said(name, folder):
    """The lines of the check over the hospital that the case has broken."""
    folder = folder / name
    shutil.copytree(in_order(), folder)
    CASES[name](folder)
    return [str(finding) for finding in hospital.check(folder / "site.toml")]


@pytest.mark.parametrize("name", CASES)
def test_each_mistake_has_its_message(name, tmp_path):
    lines = said(name, tmp_path)
    assert lines == json.loads(GOLDEN.read_text(encoding="utf-8"))[name]
    assert not [secret for secret in (CANARY, CANARY[:9], PATIENT, str(tmp_path)) if secret in "\n".join(lines)]


def test_the_golden_file_holds_at_least_sixty_mistakes_and_none_that_nobody_makes():
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert list(golden) == list(CASES)
    assert len(golden) >= 60
    assert all(lines for lines in golden.values())


@pytest.mark.parametrize(
    "name", ["table_row_is_long", "row_label_is_another_word", "image_is_text", "ecg_has_gaps", "series_cell_is_a_word"]
)
def test_loading_refuses_what_the_check_refuses_and_keeps_as_silent(name, tmp_path):
    said(name, tmp_path)
    with pytest.raises(FedkimError) as caught:
        hospital.load_site(tmp_path / name / "site.toml")
    told = str(caught.value)
    assert not [secret for secret in (CANARY, CANARY[:9], PATIENT) if secret in told]


def test_a_hospital_in_order_has_no_errors(tmp_path):
    findings = hospital.check(write_hospital(tmp_path))
    assert [finding.code for finding in findings] == [
        "I-SERIES-EMPTY",
        "I-SERIES-EMPTY",
        "I-SITE",
    ]  # neither inputs nor outputs


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        golden = {name: said(name, Path(temporary)) for name in CASES}
    GOLDEN.write_text(json.dumps(golden, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.stdout.write(f"{len(golden)} cases\n")
