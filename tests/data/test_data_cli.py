"""``fedkim data``: every verb says what it should, exits 2 on errors and repeats no id."""

import json
from pathlib import Path

import pytest
import tiny_set

from fedkim.cli import data_description, main
from fedkim.data.public_sets import PUBLIC_SETS
from fixtures.writers import ecgqa, vqarad

SMOKE = str(Path(__file__).parents[2] / "recipes" / "smoke.toml")
SMALL = ("data.image_patients=120", "data.signal_patients=60", "data.icu_patients=60")


@pytest.fixture(autouse=True)
def _sets(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDKIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setitem(PUBLIC_SETS, "tiny", tiny_set.public_set())


@pytest.fixture
def told(capsys):
    def tell(*arguments):
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert "Traceback" not in err
        return status, out, err

    return tell


def test_list_and_cards_tell_of_every_set(told):
    status, out, _ = told("data", "list")
    assert status == 0
    assert "tiny" in out
    status, out, _ = told("data", "cards", "tiny")
    assert status == 0
    assert "made-up pictures" in out
    assert told("data", "cards", "tinny")[0] == 2


def test_a_whole_copy_has_nothing_to_say_and_a_short_one_a_warning(told, tmp_path):
    tiny_set.write(tmp_path / "whole")
    assert told("data", "check", "tiny", tmp_path / "whole") == (0, "nothing to say: all as expected\n", "")
    tiny_set.write(tmp_path / "short", 8)
    status, out, _ = told("data", "check", "tiny", tmp_path / "short")
    assert status == 0
    assert out == "W-COUNT: 1\n  table.csv, found 8 rows, expected 60 rows\n"


def test_ids_written_in_two_ways_are_errors_with_status_two_and_without_the_id(told, tmp_path):
    rows = tiny_set.write(tmp_path / "a")
    tiny_set.write_table(tmp_path / "a", [*rows[:-1], [rows[-1][0], rows[-1][1].upper(), *rows[-1][2:]]])
    status, out, err = told("data", "check", "tiny", tmp_path / "a")
    assert status == 2
    assert "E-ID-CASE: 1" in out
    assert "found 1 error;" in err
    assert "P29" not in out + err
    status, out, _ = told("data", "check", "tiny", tmp_path / "a", "--json")
    assert status == 2
    assert json.loads(out)["counts"] == {"E-ID-CASE": 1}


def test_at_most_a_hundred_findings_of_a_code_are_shown_and_all_are_counted(told, tmp_path):
    rows = tiny_set.write(tmp_path / "a", 250)
    tiny_set.write_table(
        tmp_path / "a", [[row[0], row[1] + " " * (index % 2), *row[2:]] for index, row in enumerate(rows)]
    )
    _, out, err = told("data", "check", "tiny", tmp_path / "a")
    assert "E-ID-SPACE: 125\n" in out
    assert "… and 25 more" in out
    assert sum("field 'patient'" in line for line in out.splitlines()) == 100
    assert "found 125 errors" in err


def test_contents_are_compared_when_asked(told, tmp_path):
    tiny_set.write(tmp_path / "a")
    films = tmp_path / "a" / "films"
    (films / "50.png").write_bytes((films / "2.png").read_bytes())
    assert "W-CONTENT-TWICE" not in told("data", "check", "tiny", tmp_path / "a")[1]
    status, out, _ = told("data", "check", "tiny", tmp_path / "a", "--contents")
    assert status == 0
    assert "W-CONTENT-TWICE: 1" in out
    assert "  row 51, field 'image', found what record 3 of another patient has (the same)" in out


def test_files_that_cannot_be_read_are_all_told_and_the_others_still_compared(told, tmp_path):
    tiny_set.write(tmp_path / "a")
    films = tmp_path / "a" / "films"
    (films / "50.png").write_bytes((films / "2.png").read_bytes())
    (films / "1.png").write_bytes(b"no picture")
    (films / "40.png").write_bytes((films / "40.png").read_bytes()[:300])
    status, out, _ = told("data", "check", "tiny", tmp_path / "a", "--contents")
    assert status == 2
    assert "E-IMG-FORMAT: 1\n  films/1.png, found " in out
    assert "E-IMG-UNREADABLE: 1\n  films/40.png, found " in out
    assert out.count("take it out of the copy with the rows that name it") == 2
    assert "  row 51, field 'image', found what record 3 of another patient has (the same)" in out


def test_a_copy_without_a_single_file_that_can_be_read_is_told_all_the_same(told, tmp_path):
    tiny_set.write(tmp_path / "a")
    for film in (tmp_path / "a" / "films").iterdir():
        film.write_bytes(b"no picture")
    status, out, _ = told("data", "check", "tiny", tmp_path / "a", "--contents")
    assert status == 2
    assert out.startswith("E-IMG-FORMAT: 60\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tinny", "."], "did you mean 'tiny'"),
        (["tiny"], "'tiny' without a folder"),
        (["tiny", "nowhere"], "no such folder"),
        (["ecgqa", ".", "--root", "ptbxl=nowhere"], "folder nowhere, found no such folder"),
        (["ecgqa", ".", "--root", "ptbxl"], "found 'ptbxl', expected NAME=FOLDER"),
        (["ecgqa", ".", "--root", "rsna=."], "--root rsna, found a set that ecgqa isn't about"),
        (["site.toml", "--root", "ptbxl=."], "--root beside a site.toml"),
    ],
)
def test_a_mistake_is_one_line(told, arguments, message):
    status, out, err = told("data", "check", *arguments)
    assert status == 2
    assert out == ""
    assert message in err


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("vqarad", lambda root: vqarad.write(root, num_patients=6, version="mevf")),
        ("ecgqa", lambda root: ecgqa.write(root, versions=("paraphrased",))),
    ],
)
def test_a_copy_of_another_version_than_the_first_is_checked_as_that(told, tmp_path, name, write):
    write(tmp_path / "copy")
    status, out, err = told("data", "check", name, tmp_path / "copy", "--contents")
    assert (status, err) == (0, "")
    assert "W-COUNT" in out
    assert f"no version {PUBLIC_SETS[name].versions[0]!r} that can be read" in out


def test_questions_are_checked_against_recordings_that_lie_elsewhere(told, tmp_path):
    ecgqa.write(tmp_path / "set", versions=("template",))
    (tmp_path / "set" / "ptbxl").rename(tmp_path / "recordings")
    status, out, _ = told("data", "check", "ecgqa", tmp_path / "set")
    assert status == 2
    assert "--root ptbxl=FOLDER" in out
    status, out, _ = told("data", "check", "ecgqa", tmp_path / "set", "--root", f"ptbxl={tmp_path / 'recordings'}")
    assert status == 0
    assert "E-" not in out


def test_a_site_file_that_is_not_there_is_no_set_without_a_folder(told, tmp_path):
    status, out, err = told("data", "check", tmp_path / "site.toml")
    assert status == 2
    assert "E-FILE-MISSING" in out
    assert "folder" not in err


def recipe(tmp_path, split="registry"):
    tiny_set.write(tmp_path / "a")
    file = tmp_path / "recipe.toml"
    file.write_text(
        f'[data]\nsource = "public"\nroots = {{ tiny = "{tmp_path / "a"}" }}\nsplit = "{split}"\n'
        '[tasks]\nseen = ["covid"]\nunseen = ["atelectasis"]\n[federation]\nsites = 2\n'
    )
    return file


def test_splits_are_published_as_rule_seed_and_counts(told, tmp_path):
    status, out, _ = told("data", "splits", recipe(tmp_path), "--out", tmp_path / "x" / "split.json")
    assert status == 0
    published = json.loads(out)
    assert published == json.loads((tmp_path / "x" / "split.json").read_text())
    assert published["patients"] == {"private": 21, "public": 3, "development": 3, "test": 3}
    assert published["patients_by_task"]["covid"] == published["patients"]
    assert published["seed"] == 0
    assert "tiny/p" not in out


def test_the_paper_split_is_published_with_what_it_leaks(told, tmp_path):
    published = json.loads(told("data", "splits", recipe(tmp_path, "paper"))[1])
    assert published["rows"]["private"] == 42
    assert any(line.startswith("covid: of 6 test rows") for line in published["leaks"])


def test_how_few_of_a_split_lack_an_answer_cannot_be_computed():
    of = {"private": 196, "public": 37, "development": 40, "test": 38}
    counts = {"private": 191, "public": 36, "development": 40, "test": 20}
    told = data_description._told(counts, of)
    assert told == {"private": None, "public": None, "development": 40, "test": 20}


def test_splits_of_a_source_with_its_own_rule_are_counted(told):
    published = json.loads(told("data", "splits", SMOKE, *(word for key in SMALL for word in ("--set", key)))[1])
    assert published["rule"] == "that of the source 'phantom'"
    assert set(published["patients"]) == {"private", "public", "development", "test"}


def test_stats_hide_small_cells_and_draw_a_page(told, tmp_path):
    words = ["--set", 'federation.shifts={site-1=["scanner-noise"]}']
    arguments = [word for key in SMALL for word in ("--set", key)]
    status, out, _ = told("data", "stats", SMOKE, *arguments, *words, "--html", tmp_path / "page.html")
    assert status == 0
    assert "sites differ in image sharpness" in out
    assert "cells below 10 patients are hidden" in out
    page = (tmp_path / "page.html").read_text()
    assert page.count("<svg") > 3
    assert "Synthetic phantom data" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    stored = json.loads(told("data", "stats", SMOKE, *arguments, "--json")[1])
    for site in stored["sites"].values():
        for table in (*site["tasks"].values(), *site["modalities"].values()):
            assert all(count is None or count == 0 or count >= 10 for count in table["counts"].values())
    assert told("data", "stats", SMOKE, "--smallest", "1")[0] == 2
