"""Findings from errors: the row and the column that an error names aren't lost."""

import pytest

from fedkim.data.findings import Finding, Findings
from fedkim.errors import FedkimError


def noted(what, file, **parts):
    findings = Findings()
    findings.add_error(FedkimError(what, **parts), file=file, code="E-TABLE")
    (finding,) = findings
    return finding


@pytest.mark.parametrize(
    ("what", "file", "place"),
    [
        ("table /data/set/train.csv", "train.csv", ("train.csv", None, "")),
        ("table train.csv, row 7", "train.csv", ("train.csv", 7, "")),
        ("file /data/testset.json, entry 3", "testset.json", ("testset.json", 3, "")),
        ("table /d/aki/x/dyn.parquet: column 'hr'", "aki/x/dyn.parquet", ("aki/x/dyn.parquet", None, "hr")),
        ("questions /d/template/valid/10000.json, entry 2", "template/valid", ("template/valid/10000.json", 2, "")),
        ("the tables of rsna", "classes.csv", ("classes.csv", None, "")),
        ("table ./valid.csv, row 2", ".", (".", None, "")),
    ],
)
def test_what_an_error_says_of_the_place_stands_in_the_finding(what, file, place):
    finding = noted(what, file, found="x")
    assert (finding.file, finding.row, finding.field) == place


def test_a_finding_has_the_error_s_code_and_words_or_says_at_least_what_went_wrong():
    whole = noted("table a.csv", "a.csv", found="x", expected="y", remedy="z", code="E-VALUE")
    assert whole == Finding(code="E-VALUE", file="a.csv", found="x", expected="y", remedy="z")
    bare = noted("reading tables needs pandas", "a.csv", remedy="install it")
    assert (bare.code, bare.found) == ("E-TABLE", "reading tables needs pandas")
