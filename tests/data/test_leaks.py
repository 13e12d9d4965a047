"""Leaks: fifty are planted in honest synthetic records, of ten kinds, and every one is found; the honest ones raise no alarm."""

import io
import unicodedata

import numpy as np
import pytest
import tiny_set
import torch
from PIL import Image
from scipy.signal import resample_poly

from fedkim.data.leaks import Twins, check_ids, find_leaks, persons, twins
from fedkim.data.record import Record
from fedkim.data.sources import pack
from fedkim.data.split_registry import register
from fedkim.modalities import image, signal

SPLITS = ("private", "public", "development", "test")
NUMBER = 400
EACH = 5


def honest():
    """Records of ``NUMBER`` patients of two sets with pictures, and as many of a third with waves; splits by patient."""
    records, tensors, splits = [], [], []
    for index in range(NUMBER):
        name = ("rsna", "covid")[index % 2]
        patient, task = f"{name}/Zoë {index + 10} b", ("lung_opacity", "covid")[index % 2]
        records.append(Record(id=f"{name}/{index}.png", patient=patient, inputs=(), labels={task: "No"}))
        tensors.append({"image": image.prepare(tiny_set.film(index).astype(np.float32), 64)})
        splits.append(SPLITS[index % 4])
    for index in range(NUMBER // 2):
        records.append(
            Record(id=f"ptbxl/{index}", patient=f"ptbxl/{index + 10}", inputs=(), labels={"ecg_abnormal": "No"})
        )
        tensors.append({"signal": signal.prepare(tiny_set.wave(index, rate=500), 500)})
        splits.append(SPLITS[index % 4])
    return records, tensors, splits


def jpeg(pixels, quality):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=quality)
    return np.asarray(Image.open(buffer), dtype=np.float32)


def resized(pixels, side):
    return np.asarray(Image.fromarray(pixels).resize((side, side), Image.Resampling.BILINEAR))


VARIANTS = {
    "E-ID-UNICODE": lambda patient: unicodedata.normalize("NFD", patient),
    "E-ID-SPACE": lambda patient: patient + " ",
    "E-ID-CASE": lambda patient: patient.upper().replace("RSNA", "rsna").replace("COVID", "covid"),
    "W-ID-VARIANT": lambda patient: patient.replace(" ", " 00", 1),
}


def planted():
    """``(kind, code, record, tensors, split, original)`` of each leak; the original is in another split."""
    records, tensors, splits = honest()

    def leak(code, original, inputs, *, set=None, task=None, patient=None):
        record, number = records[original], len(leaks)
        name = set or record.id.partition("/")[0]
        new = Record(
            id=f"{name}/planted-{number}",
            patient=patient or f"{name}/planted-{number}",
            inputs=(),
            labels={task or next(iter(record.labels)): "Yes"},
        )
        leaks.append((code, new, inputs, SPLITS[(SPLITS.index(splits[original]) + 1 + number % 3) % 4], original))

    leaks = []
    for code, write in VARIANTS.items():
        for index in range(EACH):
            unique = {"image": image.prepare(tiny_set.film(9000 + len(leaks)).astype(np.float32), 64)}
            leak(code, index * 7, unique, patient=write(records[index * 7].patient))
    for index in range(40, 40 + EACH):  # the same pixels under another name
        leak("E-LEAK-CONTENT", index, {"image": tensors[index]["image"].clone()})
    for index in range(60, 60 + EACH):  # saved anew in another format and size
        copy = jpeg(resized(tiny_set.film(index), 80 + 8 * (index % 5)), 60 + 6 * (index % 5))
        leak("E-LEAK-CONTENT", index, {"image": image.prepare(copy, 64)})
    for index in range(NUMBER + 20, NUMBER + 20 + EACH):  # 500 samples a second and 100, another gain, rounded
        wave = resample_poly(tiny_set.wave(index - NUMBER, rate=500), 1, 5, axis=1)
        leak("E-LEAK-CONTENT", index, {"signal": signal.prepare(np.round(wave * 2.5 * 200) / 200, 100)})
    for index in range(80, 80 + EACH):  # another task of the same set
        leak("E-LEAK-TASK", index, {"image": tensors[index]["image"].clone()}, task="atelectasis")
    for index in range(100, 100 + 2 * EACH, 2):  # RSNA's normal films in the COVID set, as smaller JPEGs
        copy = jpeg(resized(tiny_set.film(index), 75), 80)
        leak("E-LEAK-SET", index, {"image": image.prepare(copy, 64)}, set="covid", task="covid")
    for index in range(NUMBER + 40, NUMBER + 40 + EACH):  # an ECG in two sets
        leak("E-LEAK-SET", index, {"signal": tensors[index]["signal"] * 1.0}, set="ecgqa", task="ecg_qa")
    assert len(leaks) == 50
    return records, tensors, splits, leaks


def alarms(records, tensors, splits):
    """Codes by the row they point to."""
    found = [*check_ids([r.patient for r in records]), *find_leaks(records, twins(records, tensors), splits)]
    return {(finding.code, finding.row) for finding in found}


@pytest.fixture(scope="module")
def planting():
    return planted()


def test_fifty_of_fifty_planted_leaks_are_found_and_nothing_else(planting):
    records, tensors, splits, leaks = planting
    all_records, all_tensors = [*records, *(leak[1] for leak in leaks)], [*tensors, *(leak[2] for leak in leaks)]
    found = alarms(all_records, all_tensors, [*splits, *(leak[3] for leak in leaks)])
    expected = {(code, len(records) + number) for number, (code, *_) in enumerate(leaks, 1)}
    assert len(expected & found) == 50
    assert found == expected


def test_honest_records_raise_no_alarm(planting):
    records, tensors, splits, _ = planting
    assert alarms(records, tensors, splits) == set()


def test_the_registry_puts_both_names_of_a_content_into_one_split(planting):
    records, tensors, _, leaks = planting
    records, tensors = [*records, *(leak[1] for leak in leaks)], [*tensors, *(leak[2] for leak in leaks)]
    same = twins(records, tensors)
    assert len(same) == 30
    registry = register(records, seed=0, unseen_tasks=("atelectasis", "ecg_qa"), same=same)
    assert registry.merged == 30
    splits = [registry.splits[record.patient] for record in records]
    assert not find_leaks(records, same, splits).errors
    alone = register(records, seed=0, unseen_tasks=("atelectasis", "ecg_qa"))
    assert find_leaks(records, same, [alone.splits[record.patient] for record in records]).errors


def test_a_patient_in_two_splits_is_told_once_and_not_by_name():
    records = [Record(id=f"a/{index}", patient="a/Jane Doe", inputs=(), labels={"covid": "No"}) for index in range(4)]
    (finding,) = find_leaks(records, [], ["private", "private", "test", "public"])
    assert finding.code == "E-LEAK-PATIENT"
    assert finding.row == 3
    assert "Jane" not in str(finding)
    assert str(finding).startswith(
        "E-LEAK-PATIENT row 3, field 'split', found a patient in test whom row 1 has in private"
    )


def test_no_finding_repeats_an_id(planting):
    records, _, _, leaks = planting
    findings = list(check_ids([record.patient for record in [*records, *(leak[1] for leak in leaks)]]))
    assert len(findings) == 20
    assert not any("Zo" in str(finding) for finding in findings)


def test_leading_zeros_are_told_and_never_merged():
    (finding,) = check_ids(["a/007", "a/7", "a/70", "a/0070x", "a/7"])
    assert (finding.code, finding.row) == ("W-ID-VARIANT", 2)
    assert len(set(persons(["a/007", "a/7"], []).values())) == 2


def test_who_is_linked_to_someone_linked_is_the_same_person():
    who = persons("fedcba", [("f", "e"), ("d", "e"), ("b", "a")])
    assert who == {"f": "d", "e": "d", "d": "d", "c": "c", "b": "a", "a": "a"}


def test_a_stay_is_found_by_all_its_tables_and_an_empty_one_says_nothing():
    random = torch.Generator().manual_seed(0)
    stays = [
        {"vitals": torch.randn(24, 14, generator=random), "labs": torch.randn(24, 8, generator=random)}
        for _ in range(5)
    ]
    stays += [{name: table.clone() for name, table in stays[1].items()}, {**stays[2], "labs": stays[3]["labs"].clone()}]
    stays += [{"vitals": torch.zeros(24, 14)}] * 2 + [{"vitals": torch.zeros(24, 14)}]
    records = [
        Record(id=f"icu/{i}", patient=f"icu/{i}", inputs=(), labels={"mortality": "No"}) for i in range(len(stays))
    ]
    assert [pair for pair in twins(records, stays) if pair.second < 7] == [
        Twins(first=1, second=5, modality="series", exact=True)
    ]


def test_films_of_other_shapes_are_compared_with_their_like(planting):
    _, tensors, _, _ = planting
    wide = torch.cat([tensors[0]["image"]] * 2, dim=2)
    records = [Record(id=f"a/{i}", patient=f"a/{i}", inputs=(), labels={}) for i in range(4)]
    assert len(twins(records, [tensors[0], {"image": wide}, {"image": wide.clone()}, tensors[1]])) == 1


@pytest.mark.data_pack
def test_no_two_patients_of_the_real_data_pack_are_taken_for_one(data_pack):
    data = pack.load(pack.PackSettings(root=data_pack, fold=0))
    records = [Record(id=s.id, patient=s.patient, inputs=(), labels=s.labels) for s in data]
    assert len({record.patient for record in records}) > 2000
    assert twins(records, [sample.inputs for sample in data]) == []
    assert list(check_ids([record.patient for record in records])) == []
