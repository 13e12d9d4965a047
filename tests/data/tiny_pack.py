"""A pack of a few patients in the genuine formats: PNG and NIH's odd header, WFDB, YAIB's parquet, two JSON files."""

import csv
import json
from pathlib import Path

import numpy as np
import pandas
import wfdb
from PIL import Image

from fedkim.data.partition import partition
from fedkim.data.sources import mitbih, nih, pack_questions, pack_stays, pubmedqa
from fedkim.modalities.concepts import CONCEPTS
from fedkim.recipe import load

RECIPE = Path(__file__).parents[2] / "recipes" / "real-pack.toml"

HEADER = (
    "Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position,"
    "OriginalImage[Width,Height],OriginalImagePixelSpacing[x,y]"
)
NUM_PATIENTS = 30
NUM_STAYS = {"mimic": 40, "eicu": 120}
SECONDS = 32
"""Three windows and two seconds that are left over."""
NAMES = [concept.name for group in CONCEPTS.values() for concept in group]


def write_pack(root: Path) -> Path:
    """Write the whole pack and return its folder."""
    write_films(root)
    write_records(root)
    write_stays(root)
    write_texts(root)
    return root


def write_films(root: Path) -> None:
    """Thirty patients, every third with two films, half of them with pneumonia."""
    generator = np.random.default_rng(0)
    (root / nih.FOLDER / "images").mkdir(parents=True)
    rows = []
    for patient in range(NUM_PATIENTS):
        for follow_up in range(1 + (patient % 3 == 0)):
            name = f"{patient:08d}_{follow_up:03d}.png"
            labels = ("Effusion|Pneumonia", "No Finding", "Infiltration|Pneumonia", "No Finding")[patient % 4]
            rows.append(
                f"{name},{labels},{follow_up},{patient},50,F,{'AP' if patient % 5 < 3 else 'PA'},900,800,0.1,0.1"
            )
            pixels = generator.integers(0, 255, (40, 36), dtype=np.uint8)
            Image.fromarray(pixels).save(root / nih.FOLDER / "images" / name)
    (root / nih.FOLDER / nih.TABLE).write_text("\n".join([HEADER, *rows]) + "\n")


def write_records(root: Path) -> None:
    """The nine record names, 32 s of spikes each: a beat a second, every seventh one early and ventricular."""
    folder = root / mitbih.FOLDER
    folder.mkdir(parents=True)
    for number, name in enumerate(mitbih.RECORDS):
        generator = np.random.default_rng(number)
        wave = 0.02 * generator.standard_normal((360 * SECONDS, 1))
        peaks = [180 + 360 * beat - (120 if beat % 7 == 6 else 0) for beat in range(SECONDS)]
        wave[peaks] += 1.0
        wfdb.wrsamp(
            name, fs=360, units=["mV"], sig_name=["V5" if name == "114" else "MLII"], p_signal=wave, fmt=["16"],
            write_dir=str(folder),
        )  # fmt: skip
        symbols = ["V" if beat % 7 == 6 else "N" for beat in range(SECONDS)]
        wfdb.wrann(name, "atr", np.array(peaks), symbol=symbols, write_dir=str(folder))


def write_stays(root: Path) -> None:
    """Three YAIB tasks that share stays; a case's series ends six hours after its onset."""
    generator = np.random.default_rng(1)
    for task in ("mortality24", "aki", "sepsis"):
        for source, num in NUM_STAYS.items():
            folder = root / pack_stays.FOLDER / task / f"{source}_demo"
            folder.mkdir(parents=True)
            stays = [stay for stay in range(num) if task == "mortality24" or stay % 4 != 1]
            stays += [] if task == "mortality24" else list(range(num, num + num // 2))
            tables, outcomes = [], []
            for stay in stays:
                hours = 25 if task == "mortality24" else 20 + 3 * (stay % 12)
                case = task != "mortality24" and stay % 3 == 0
                values = pandas.DataFrame(np.nan, index=range(hours), columns=NAMES)
                values["hr"] = generator.normal(80, 10, hours)
                values["map"] = np.where(np.arange(hours) == 5, 60.0 if stay % 2 else 66.0, 80.0)
                values.loc[3, "lact"] = 1.0 if stay % 5 else 4.0
                time = pandas.to_timedelta(np.arange(hours), unit="h").astype("timedelta64[s]")
                tables.append(values.assign(stay_id=np.int32(stay), time=time))
                label = pandas.DataFrame({"stay_id": np.int32(stay), "time": time, "label": False})
                label.loc[label.index >= hours - 13, "label"] = case
                outcomes.append(label)
            outcome = pandas.concat(outcomes, ignore_index=True)
            if task == "mortality24":
                outcome = pandas.DataFrame({"stay_id": stays, "label": [int(stay % 10 == 0) for stay in stays]})
            pandas.concat(tables, ignore_index=True).to_parquet(folder / "dyn.parquet")
            outcome.to_parquet(folder / "outc.parquet")


def write_texts(root: Path) -> None:
    """One wording for every kind of noise and lead, and four research questions."""
    (root / pack_questions.FOLDER).mkdir(parents=True)
    asked = [
        (27, kind, f"Is {kind} visible in this ECG?")
        for kind in ("static noise", "burst noise", "baseline drift", "electrodes problems")
    ]
    asked += [
        (28, pack_questions.ANY_NOISE, f"Are there any noises detected in lead {lead} on this ECG?")
        for lead in ("II", "V5", "I")
    ]
    entries = [
        {
            "template_id": template, "question_id": 1, "sample_id": number, "question_type": "single-verify",
            "attribute_type": "noise", "question": question, "answer": ["no"], "ecg_id": [number], "attribute": [kind],
        }
        for number, (template, kind, question) in enumerate(asked)
    ]  # fmt: skip
    pack_questions.questions_file(root).write_text(json.dumps(entries))
    folder = root / pubmedqa.FOLDER
    folder.mkdir(parents=True)
    articles = {
        str(number): {
            "QUESTION": f"Does it work ({number})?",
            "CONTEXTS": ["We tried it."],
            "LONG_ANSWER": "It works.",
            "final_decision": ("yes", "no", "maybe", "yes")[number],
        }
        for number in range(4)
    }
    (folder / "ori_pqal.json").write_text(json.dumps(articles))
    (folder / "test_ground_truth.json").write_text(json.dumps({"0": "yes", "1": "no"}))


def at_the_sites(dataset):
    """The private split as the recipe deals it; a shard that no site of the recipe holds is an error."""
    table = load(RECIPE).federation.table_of_sites
    holder = {shard: site for site, shards in table.items() for shard in shards}
    by_patient = {sample.patient: holder[sample.strata["shard"]] for sample in dataset.split("private")}
    return partition(dataset, kind="table", table=by_patient)


def edit_csv(path: Path, change) -> None:
    """Rewrite a CSV's lines (header first) by ``change``."""
    with path.open(newline="") as handle:
        lines = list(csv.reader(handle))
    with path.open("w", newline="") as handle:
        csv.writer(handle).writerows(change(lines))
