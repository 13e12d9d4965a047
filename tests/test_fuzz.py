"""Whatever bytes come in, a parser gives a result or one line: no other exception, no hang, no patient's value repeated.

Each of the eight parsers gets damaged copies of a whole file. ``quick`` tries a few, ``slow`` two thousand of each.
"""

import contextlib
import json
import shutil
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedkim.data.findings import Findings
from fedkim.data.hospital.inputs import read_ecg_input, read_image_input
from fedkim.data.hospital.records import series_layout
from fedkim.data.hospital.rows import read_rows
from fedkim.data.hospital.site_file import load_site_file
from fedkim.data.hospital.stays import read_stays
from fedkim.errors import FedkimError
from fedkim.modalities.text import LONGEST_QUESTION, safe_question
from fedkim.recipe import load
from fedkim.state import State
from fedkim.store.run_store import RunStore
from hospital_files import PATIENT, SITE, write_ecg, write_hospital, write_image
from small_recipe import SMOKE, small

CANARY = "Kowalczyk19610314"
HANG = 1.0
"""Seconds of processor time for one input, after which it counts as a hang."""

QUICK = settings(
    max_examples=60, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
SLOW = settings(QUICK, max_examples=2000)


class HangError(BaseException):  # nothing may catch it on the way
    pass


@contextlib.contextmanager
def no_hang():
    def give_up(*_):
        raise HangError

    before = signal.signal(signal.SIGPROF, give_up)
    signal.setitimer(signal.ITIMER_PROF, HANG)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


SPICES = [b"", b"\0", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\n", b",", b";", b"=", b"[", b"]", b"{", b"}", b"-1", b"1e999", b"nan",
          b"9" * 5000, b"../", b"/etc/passwd", b"\xe2\x80\xae", b"\xc3", "é".encode(), "e\u0301".encode(), b"<|im_end|>", b"true",
          b"null", b"\x7f\xff\xff\xff", b"[[[[" * 300]  # fmt: skip
OURS = ("recipe", "site_file", "run_recipe_file")
"""Settings are whoever wrote them's: a misspelt key is repeated, so no patient is planted among them."""


def changes(make):
    """Where, how much and by what a file of this parser is damaged."""
    spices = SPICES if make.__name__ in OURS else [*SPICES, CANARY.encode()]
    piece = st.one_of(st.sampled_from(spices), st.binary(max_size=12))
    return st.lists(st.tuples(st.floats(0, 1), st.integers(0, 40), piece), min_size=1, max_size=6)


cut = st.one_of(st.none(), st.floats(0, 1))


def damaged(data, places, end):
    """``data`` with pieces overwritten, taken out and put in, and perhaps cut short."""
    for place, length, spice in places:
        at = round(place * len(data))
        data = data[:at] + spice + data[at + length :]
    return data if end is None else data[: round(end * len(data))]


def survives(parse, data):
    """Parse, and hold what may come of it."""
    try:
        with no_hang():
            return parse(data)
    except FedkimError as error:
        told = str(error)
        assert told
        assert CANARY not in told
        assert PATIENT not in told
        return None


# the parsers ---------------------------------------------------------------------------------------------------------


def into(path, parse):
    """A parser of bytes from one of a file."""

    def whole(data):
        path.write_bytes(data)
        return parse(path)

    return whole


def silent(findings):
    """What a check says is held to the same."""
    for finding in findings:
        assert CANARY not in str(finding)
        assert PATIENT not in str(finding)


def recipe(folder):
    return f"# {CANARY}\n".encode() + SMOKE.read_bytes(), into(folder / "recipe.toml", load)


def site_file(folder):
    text = SITE.replace('address = "', f'contact = "{CANARY}"\naddress = "')
    return text.encode(), into(folder / "site.toml", load_site_file)


def manifest(folder):
    chosen = small("federation.rounds=1")
    with RunStore.open(folder / "run", chosen) as store:
        store.commit(1, {"state.encoder.image.weight": torch.zeros(2)}, {"history": [], "shapes": {"image": [1, 8, 8]}})
    path = folder / "run" / "rounds" / "round-0001.json"
    whole = path.read_bytes()
    assert json.loads(whole)

    def read(path):
        return RunStore(folder / "run").latest()

    return whole, into(path, read)


def run_recipe_file(folder):
    chosen = small("federation.rounds=1")
    with RunStore.open(folder / "run", chosen):
        pass
    path = folder / "run" / "recipe.json"
    return path.read_bytes(), into(path, lambda path: RunStore(folder / "run").recipe())


def state(folder):
    whole = State({"encoder.image.weight": torch.ones(3, 2), "decoder.covid.bias": torch.zeros(2)}).to_bytes()
    return whole, State.from_bytes


def table(folder):
    path = write_hospital(folder)
    site = load_site_file(path)
    text = (folder / "patients.csv").read_text().replace("ward-0", CANARY)

    def read(_):
        findings = Findings()
        rows = read_rows(site, findings)
        silent(findings)
        return rows

    return text.encode(), into(folder / "patients.csv", read)


def stays(folder):
    path = write_hospital(folder)
    layout = series_layout(load_site_file(path), shared=True)
    text = "\n".join((folder / "icu.csv").read_text().splitlines()[:60]).replace("S1,3", f"{CANARY},3")

    def read(path):
        found = read_stays(path, layout, "icu.csv")
        silent(found.findings)
        return [found.tensors(stay, 24) for stay in found.by_stay]

    return text.encode(), into(folder / "icu.csv", read)


def dicom(folder):
    pydicom = pytest.importorskip("pydicom")
    pytest.importorskip("fedkim.modalities.dicom")
    from pydicom.dataset import FileDataset, FileMetaDataset

    meta = FileMetaDataset()
    meta.TransferSyntaxUID, meta.MediaStorageSOPInstanceUID = pydicom.uid.ExplicitVRLittleEndian, "1.2.3"
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1"
    data = FileDataset("", {}, file_meta=meta, preamble=bytes(128))
    data.PatientName, data.PatientID = CANARY, PATIENT
    data.Rows = data.Columns = 40
    data.BitsAllocated = data.BitsStored = 8
    data.HighBit, data.PixelRepresentation, data.SamplesPerPixel = 7, 0, 1
    data.PhotometricInterpretation = "MONOCHROME2"
    data.PixelData = np.random.default_rng(0).integers(0, 255, (40, 40), dtype=np.uint8).tobytes()
    data.save_as(folder / "film.dcm", enforce_file_format=True)
    whole = (folder / "film.dcm").read_bytes()
    return whole, into(folder / f"{PATIENT}.dcm", lambda path: read_image_input(path, size=32))


def png(folder):
    write_image(folder / "films" / "film.png", np.random.default_rng(0))
    whole = (folder / "films" / "film.png").read_bytes()
    return whole, into(folder / f"{PATIENT}.png", lambda path: read_image_input(path, size=32))


ECG = {"sampling_rate": 100, "unit": "mV", "start": 0.0, "leads": ["II", "I"]}


def ecg_csv(folder):
    write_ecg(folder / "ecg" / "wave.csv", np.random.default_rng(0))
    whole = (folder / "ecg" / "wave.csv").read_bytes()
    return whole, into(folder / f"{PATIENT}.csv", lambda path: read_ecg_input(path, **ECG))


def ecg_header(folder):
    pytest.importorskip("wfdb")
    path = folder / f"{PATIENT}.hea"
    (folder / f"{PATIENT}.dat").write_bytes(
        np.random.default_rng(0).integers(-500, 500, 2000, dtype=np.int16).tobytes()
    )
    lines = [
        f"{PATIENT} 2 100 1000",
        *(f"{PATIENT}.dat 16 200(0)/mV 16 0 0 0 0 {lead}" for lead in ("I", "II")),
        f"# {CANARY}",
    ]
    return "\n".join(lines).encode() + b"\n", into(path, lambda path: read_ecg_input(path, **ECG))


def question(folder):
    def read(data):
        text = data.decode("utf-8", errors="surrogatepass" if b"\xed" in data else "replace")
        safe, _, _ = safe_question(text)
        assert safe_question(safe) == (safe, False, False)
        assert len(safe) <= LONGEST_QUESTION
        assert "<|" not in safe
        assert "</image>" not in safe
        assert safe.isprintable()
        return safe

    def tolerant(data):
        with contextlib.suppress(UnicodeDecodeError):  # of our own line above, not of the parser
            return read(data)

    return f"Is there <image> an effusion? {CANARY} </s><|im_end|>[INST]".encode(), tolerant


PARSERS = {
    "recipe": [recipe],
    "site file": [site_file],
    "manifest": [manifest, run_recipe_file],
    "weights": [state],
    "table": [table, stays],
    "image": [dicom, png],
    "ecg": [ecg_csv, ecg_header],
    "question": [question],
}


@pytest.fixture
def folder():
    """Short-lived and quick: not below pytest's numbered folders."""
    made = Path(tempfile.mkdtemp(prefix="fedkim-fuzz-"))
    yield made
    shutil.rmtree(made)


def fuzz(make, folder, profile):
    whole, parse = make(folder)
    assert parse(whole) is not None, "the undamaged file isn't understood"  # also imports what reading needs
    tried = 0

    @profile
    @given(changes(make), cut)
    def attempt(places, end):
        nonlocal tried
        tried += 1
        survives(parse, damaged(whole, places, end))

    attempt()
    return tried


CASES = [
    pytest.param(make, len(makers), id=f"{name}: {make.__name__}")
    for name, makers in PARSERS.items()
    for make in makers
]


@pytest.mark.parametrize(("make", "shares"), CASES)
def test_damaged_input_is_refused_in_one_line(make, shares, folder):
    assert fuzz(make, folder, QUICK) >= 50


@pytest.mark.slow
@pytest.mark.parametrize(("make", "shares"), CASES)
def test_two_thousand_damaged_inputs_of_each_parser_are_refused_in_one_line(make, shares, folder):
    profile = settings(SLOW, max_examples=-(-2000 // shares))
    assert fuzz(make, folder, profile) * shares >= 2000


def test_there_are_eight_parsers():
    assert len(PARSERS) == 8


def test_a_parser_that_breaks_or_tells_or_hangs_would_be_noticed():
    def breaks(data):
        raise KeyError

    def tells(data):
        raise FedkimError("a cell", found=CANARY)

    def hangs(data):
        while True:
            pass

    for bad, caught in ((breaks, KeyError), (tells, AssertionError), (hangs, HangError)):
        with pytest.raises(caught):
            survives(bad, b"")
