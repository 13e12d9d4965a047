"""Hospitals with one thing wrong each, by name: a function that breaks the files which ``write_hospital`` has made."""

import os
import struct

import numpy as np
from PIL import Image

from fedkim.modalities.signal_files import STANDARD_LEADS
from hospital_files import PATIENT, edit, write_ecg, write_image, write_rows

FIRST = f"{PATIENT}-00"
CANARY = "Kowalczyk 1961-03-14"
"""A name and a date of birth: the cell that must never be repeated."""
CASES = {}
"""By name, in the order of this file."""


def case(function):
    """Register a case under its function's name."""
    CASES[function.__name__] = function
    return function


def patients(folder):
    return folder / "patients.csv"


def site(folder):
    return folder / "site.toml"


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


def edits(name, path, old, new, *, times=-1):
    """A case that replaces text in one file."""
    CASES[name] = lambda folder: edit(folder / path, old, new, times=times)


# the site file -------------------------------------------------------------------------------------------------------


@case
def site_file_is_missing(folder):
    site(folder).unlink()


@case
def site_file_is_a_folder(folder):
    site(folder).unlink()
    site(folder).mkdir()


@case
def site_file_is_no_toml(folder):
    site(folder).write_text(f"[site\nname = {CANARY}")


@case
def site_file_is_latin_1(folder):
    rewrite(site(folder), lambda data: data.replace(b"st-elsewhere", "hôpital".encode("latin-1")))


@case
def site_file_nests_without_end(folder):
    site(folder).write_text("x = " + "[" * 5000 + "]" * 5000)


@case
def site_file_has_a_number_of_5000_digits(folder):
    site(folder).write_text("x = " + "9" * 5000)


edits("site_key_is_misspelt", "site.toml", "tables =", "table =")
edits("site_table_is_unknown", "site.toml", "[policy]", "[polices]")
edits("site_name_has_spaces", "site.toml", '"st-elsewhere"', f'"{CANARY}"')
edits("site_name_is_missing", "site.toml", 'name = "st-elsewhere"', "")
edits("site_value_has_the_wrong_type", "site.toml", 'tables = ["patients.csv"]', 'tables = "patients.csv"')
edits("site_encoding_is_unknown", "site.toml", 'missing = ["", "n/a"]', f'encoding = "{CANARY}"')
edits("site_policy_is_no_table", "site.toml", "[policy]\nmin_patients = 20", "")
CASES["site_policy_is_no_table"] = lambda folder: site(folder).write_text(
    "policy = 3\n" + site(folder).read_text().replace("[policy]\nmin_patients = 20", "")
)
edits("site_task_is_unknown", "site.toml", "[data.labels.covid]", "[data.labels.covld]")
edits("site_answer_is_none_of_the_task", "site.toml", 'pos = "Yes"', 'pos = "Positive"')
edits("site_measurement_is_unknown", "site.toml", "crea =", "creatinine =")
edits("site_unit_has_no_conversion", "site.toml", "µmol/L", "stone/acre")
edits("site_consent_has_no_words", "site.toml", 'consent_given = ["yes"]', "")
edits("site_stay_without_its_table", "site.toml", 'file = "icu.csv"', "")
edits("site_declares_no_table", "site.toml", '["patients.csv"]', "[]")
edits("site_split_is_none_of_ours", "site.toml", "[data.ecg]", '[data.splits]\ntrain = "training"\n[data.ecg]')

# the table as a file -------------------------------------------------------------------------------------------------


@case
def table_is_missing(folder):
    patients(folder).unlink()


@case
def table_is_a_folder(folder):
    patients(folder).unlink()
    patients(folder).mkdir()


@case
def table_is_a_pipe(folder):
    patients(folder).unlink()
    os.mkfifo(patients(folder))


@case
def table_is_10_gigabytes(folder):
    with open(patients(folder), "ab") as file:
        file.truncate(10_000_000_000)  # a hole: takes no room


@case
def table_is_a_link_out_of_the_folder(folder):
    outside = folder.parent / f"{folder.name}-outside.csv"
    patients(folder).rename(outside)
    patients(folder).symlink_to(outside)


@case
def table_is_a_link_to_itself(folder):
    patients(folder).unlink()
    patients(folder).symlink_to(patients(folder))


@case
def table_climbs_out_of_the_folder(folder):
    edit(site(folder), '"patients.csv"', '"../../../../../../etc/passwd"')


@case
def table_is_empty(folder):
    patients(folder).write_text("")


@case
def table_has_a_header_alone(folder):
    patients(folder).write_text(patients(folder).read_text().splitlines()[0] + "\n")


@case
def table_is_a_spreadsheet(folder):
    patients(folder).write_bytes(b"PK\x03\x04" + bytes(200))


@case
def table_is_an_unknown_format(folder):
    patients(folder).rename(folder / "patients.sav")
    edit(site(folder), "patients.csv", "patients.sav")


@case
def table_is_a_damaged_parquet(folder):
    (folder / "patients.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    edit(site(folder), "patients.csv", "patients.parquet")


@case
def table_is_utf_16(folder):
    rewrite(patients(folder), lambda data: data.decode().encode("utf-16"))


@case
def table_is_latin_1(folder):
    rewrite(patients(folder), lambda data: data.replace(b"ward-0", "Frühgeborene".encode("latin-1")))


@case
def table_has_a_nul(folder):
    rewrite(patients(folder), lambda data: data.replace(b"ward-0", b"ward\x00-0", 1))


@case
def table_overrides_the_writing_direction(folder):
    edit(patients(folder), "ward-0", "ward-\u202e0", times=1)


@case
def table_begins_with_a_byte_order_mark(folder):
    rewrite(patients(folder), lambda data: b"\xef\xbb\xbf" + data)


# the table as text ---------------------------------------------------------------------------------------------------

edits("table_uses_semicolons", "patients.csv", ",", ";")
edits("table_uses_tabs", "patients.csv", ",", "\t")
edits("table_row_is_short", "patients.csv", ",neg,No,0\n", ",neg,No\n", times=1)
edits("table_row_is_long", "patients.csv", ",neg,No,0\n", f",neg,No,0,{CANARY}\n", times=1)
edits("table_quote_is_never_closed", "patients.csv", "ward-0", f'"ward-0 {CANARY}', times=1)
edits("table_header_stands_twice", "patients.csv", "ward,pcr", "pcr,pcr")
edits("table_column_is_missing", "patients.csv", "pcr", "result")
edits("table_cells_have_spaces", "patients.csv", ",yes,", ", yes ,")


@case
def table_has_no_header(folder):
    lines = patients(folder).read_text().splitlines()[1:]
    patients(folder).write_text("\n".join([lines[0].replace("ward-0", CANARY), *lines]) + "\n")


@case
def table_has_a_million_columns(folder):
    patients(folder).write_text(",".join(f"c{number}" for number in range(1_000_000)) + "\n")


@case
def table_cell_is_2_megabytes(folder):
    edit(patients(folder), "ward-0", CANARY * 100_000, times=1)


@case
def table_has_empty_rows_at_its_end(folder):
    with open(patients(folder), "a") as file:
        file.write(",,,,,,,,\n" * 7)


# what the rows say ---------------------------------------------------------------------------------------------------

edits("row_has_no_patient", "patients.csv", f"{FIRST},", ",", times=1)
edits("row_id_has_a_hidden_character", "patients.csv", f"{FIRST},", f"{FIRST}\u200b,", times=1)
edits("row_label_is_another_word", "patients.csv", ",neg,", f",{CANARY},", times=1)
edits("row_label_is_written_otherwise", "patients.csv", ",neg,", ",NEG,", times=1)
edits("rows_without_consent", "patients.csv", ",yes,", ",no,", times=3)
edits("rows_without_any_consent", "patients.csv", ",yes,", ",no,")
edits("row_has_a_label_and_no_input", "patients.csv", f"films/{PATIENT}-05.png,,S5", ",,")
edits("rows_without_labels", "patients.csv", "neg,,0", ",,")
edits("row_lacks_one_of_its_inputs", "patients.csv", ",S7,", ",,")


@case
def one_answer_is_absent(folder):
    edit(patients(folder), "pos", "neg")


@case
def a_task_has_no_labels(folder):
    edit(patients(folder), ",pos,", ",n/a,")
    edit(patients(folder), ",neg,", ",n/a,")


@case
def one_file_belongs_to_two_patients(folder):
    edit(patients(folder), f"films/{PATIENT}-05.png", f"films/{PATIENT}-06.png")


@case
def a_patient_is_in_two_splits(folder):
    edit(site(folder), 'consent = "consent"', 'consent = "consent"\nsplit = "ward"')
    edit(site(folder), "[data.ecg]", '[data.splits]\nward-0 = "private"\nward-1 = "test"\n[data.ecg]')
    edit(patients(folder), f"{PATIENT}-01,", f"{PATIENT}-00,", times=1)


@case
def a_split_word_is_unknown(folder):
    edit(site(folder), 'consent = "consent"', 'consent = "consent"\nsplit = "ward"')
    edit(site(folder), "[data.ecg]", '[data.splits]\nward-0 = "private"\n[data.ecg]')


@case
def ids_differ_in_zeros_alone(folder):
    edit(patients(folder), f"{PATIENT}-01,", "007,", times=1)
    edit(patients(folder), f"{PATIENT}-02,", "7,", times=1)


@case
def ids_are_fractions(folder):
    from pyarrow import csv, parquet

    edit(patients(folder), f"{PATIENT}-", "")
    table = csv.read_csv(patients(folder))
    index = table.schema.get_field_index("patient")
    table = table.set_column(index, "patient", table.column("patient").cast("float64"))
    parquet.write_table(table, folder / "patients.parquet")
    edit(site(folder), "patients.csv", "patients.parquet")


# the files of the rows -----------------------------------------------------------------------------------------------


def film(folder, number=0):
    return folder / "films" / f"{PATIENT}-{number:02d}.png"


def ecg(folder, number=0):
    return folder / "ecg" / f"{PATIENT}-{number:02d}.csv"


@case
def image_is_missing(folder):
    film(folder).unlink()


@case
def image_is_a_folder(folder):
    film(folder).unlink()
    film(folder).mkdir()


@case
def image_is_a_pipe(folder):
    film(folder).unlink()
    os.mkfifo(film(folder))


@case
def image_climbs_out_of_the_folder(folder):
    edit(patients(folder), f"films/{FIRST}.png", f"../../{CANARY}/film.png")


@case
def image_is_a_link_out_of_the_folder(folder):
    outside = folder.parent / f"{folder.name}-outside.png"
    film(folder).rename(outside)
    film(folder).symlink_to(outside)


@case
def image_is_text(folder):
    film(folder).write_text(CANARY)


@case
def image_is_cut_short(folder):
    rewrite(film(folder), lambda data: data[: len(data) // 2])


@case
def image_is_a_thumbnail(folder):
    write_image(film(folder), np.random.default_rng(0), size=16)


@case
def image_is_one_grey(folder):
    Image.fromarray(np.full((40, 40), 7, dtype=np.uint8)).save(film(folder))


@case
def image_claims_to_be_huge(folder):
    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    rewrite(film(folder), lambda data: data[:16] + header + data[29:])


@case
def ecg_is_missing(folder):
    ecg(folder).unlink()


@case
def ecg_is_too_short(folder):
    write_ecg(ecg(folder), np.random.default_rng(0), seconds=7)


@case
def ecg_is_flat(folder):
    write_rows(ecg(folder), ("I", "II"), [(0, 0)] * 1000)


@case
def ecg_is_in_microvolts(folder):
    for number in range(4):
        write_ecg(ecg(folder, number), np.random.default_rng(0), scale=1000)


@case
def ecg_has_gaps(folder):
    edit(ecg(folder), "\n0", f"\n{CANARY}", times=1)


@case
def ecg_has_no_names_of_leads(folder):
    ecg(folder).write_text("\n".join(ecg(folder).read_text().splitlines()[1:]))


@case
def ecg_has_other_leads_than_the_rest(folder):
    edit(site(folder), 'leads = ["II", "I"]\n', "")
    for number in (1, 2, 3):  # one lead needs no order
        write_ecg(ecg(folder, number), np.random.default_rng(number), leads=("II",))
    write_ecg(ecg(folder), np.random.default_rng(0), leads=STANDARD_LEADS)


@case
def ecgs_have_leads_in_an_order_of_their_own(folder):
    edit(site(folder), 'leads = ["II", "I"]\n', "")


@case
def ecg_rate_is_not_declared(folder):
    edit(site(folder), "sampling_rate = 100", "")


@case
def ecg_has_no_header(folder):
    edit(patients(folder), f"ecg/{FIRST}.csv", f"ecg/{FIRST}")


@case
def ecg_header_is_text(folder):
    ecg(folder).with_suffix(".hea").write_text(CANARY)
    edit(patients(folder), f"ecg/{FIRST}.csv", f"ecg/{FIRST}")


@case
def ecg_header_has_another_rate(folder):
    ecg(folder).with_suffix(".hea").write_text(f"{FIRST} 1 250 2500\n{FIRST}.dat 16 200 16 0 0 0 0 I\n")
    ecg(folder).with_suffix(".dat").write_bytes(bytes(5000))
    edit(patients(folder), f"ecg/{FIRST}.csv", f"ecg/{FIRST}")


@case
def ecg_header_climbs_out_of_the_folder(folder):
    ecg(folder).with_suffix(".hea").write_text(f"{FIRST} 1 100 1000\n../../{FIRST}.dat 16 200 16 0 0 0 0 I\n")
    edit(patients(folder), f"ecg/{FIRST}.csv", f"ecg/{FIRST}")


@case
def ecg_has_no_samples(folder):
    ecg(folder).with_suffix(".hea").write_text(f"{FIRST} 1 100 1000\n{FIRST}.dat 16 200 16 0 0 0 0 I\n")
    edit(patients(folder), f"ecg/{FIRST}.csv", f"ecg/{FIRST}")


# the hourly tables ---------------------------------------------------------------------------------------------------


@case
def series_is_missing(folder):
    (folder / "icu.csv").unlink()


@case
def series_knows_no_such_stay(folder):
    edit(patients(folder), ",S5,", f",{CANARY},")


edits("series_has_no_hours", "icu.csv", "stay_id,hour", "stay_id,when")
edits("series_has_no_known_measurement", "icu.csv", "hr [beats/min],crea", "pulse,kreatinin")
edits("series_hour_is_a_word", "icu.csv", "S0,3,", f"S0,{CANARY},")
edits("series_unit_is_missing", "site.toml", 'units = { crea = "µmol/L" }', "")
edits("series_unit_is_the_wrong_one", "site.toml", "µmol/L", "mg/dL")
edits("series_header_unit_has_no_conversion", "icu.csv", "hr [beats/min]", "hr [furlongs]")
edits("series_header_is_in_capitals", "icu.csv", "hour,hr [beats/min],crea", "hour,HR [beats/min],Crea")
edits("series_uses_decimal_commas", "icu.csv", "S0,0,", 'S0,0,"77,5",1\nS0,0,', times=1)


@case
def series_cell_is_a_word(folder):
    lines = (folder / "icu.csv").read_text().splitlines()
    lines[5] = f"S0,4,{CANARY},95"
    (folder / "icu.csv").write_text("\n".join(lines))


@case
def series_row_has_a_unit_without_conversion(folder):
    rows = [f"S{stay},{hour},crea,95,{'' if stay else CANARY}" for stay in range(12) for hour in range(24)]
    (folder / "icu.csv").write_text("\n".join(["stay_id,hour,concept,value,unit", *rows]))
    edit(site(folder), "[data.series]", '[data.series]\nform = "long"')


@case
def series_has_sentinels_and_gaps(folder):
    lines = (folder / "icu.csv").read_text().splitlines()
    lines[1:6] = ["S0,0,-1,<0.1", "S0,1,NaN,inf", "S0,2,,n/a", "S0,3,-1.0,95", "S0,4,999,95"]
    (folder / "icu.csv").write_text("\n".join(lines))


@case
def series_measures_nothing(folder):
    lines = [
        f"S5,{line.split(',')[1]},," if line.startswith("S5,") else line
        for line in (folder / "icu.csv").read_text().splitlines()
    ]
    (folder / "icu.csv").write_text("\n".join(lines))
