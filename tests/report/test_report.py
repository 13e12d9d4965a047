import json
import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest

from fedkim.errors import FedkimError
from fedkim.evaluation.predictions import Predictions
from fedkim.evaluation.scoring import score_rows
from fedkim.report import drawing, training, words, write_report
from fedkim.report.page import render

PRIVACY = "No differential privacy and no secure aggregation in this version: the coordinator sees each site's update."
SITES = [f"site-{i + 1}" for i in range(5)]


def predictions(name, strength, positive, seed, **more):
    random = np.random.default_rng(seed)
    scores = 1 / (1 + np.exp(-(strength * (positive - 0.5) * 2 + random.normal(size=len(positive)))))
    ids = tuple(f"{name}-{i}" for i in range(len(positive)))
    return Predictions(
        task=name,
        split="test",
        samples=ids,
        patients=ids,
        truth=tuple("Yes" if p else "No" for p in positive),
        answers=("No", "Yes"),
        probabilities=np.stack([1 - scores, scores], axis=1),
        sites=tuple(SITES[i % 5] for i in range(len(positive))),
        **more,
    )


@pytest.fixture(scope="module")
def result():
    """A run's result: random predictions of known strength, scored by the code that scores real ones."""
    random = np.random.default_rng(0)
    metrics = {}
    names = [
        "lung opacity",
        "COVID-19",
        "ECG abnormal",
        "mortality",
        "atelectasis",
        "effusion",
        "ectopic beats",
        "sepsis",
    ]
    for k, name in enumerate(names):
        seen, positive = k < 4, random.random(120) < 0.4
        more = {}
        if name == "effusion":
            more = {
                "within": "pneumonia",
                "groups": tuple(frozenset({"pneumonia"} if i % 3 else ()) for i in range(120)),
            }
        strengths = {"injected": 0.8, "blind": 0, "shuffled": 0, "small_before": 0.8, "small_after": 0.85}
        if not seen:
            strengths["proxy"] = 0.5
        rows = {row: predictions(name, s, positive, 10 * k + i, **more) for i, (row, s) in enumerate(strengths.items())}
        development = None
        if seen:
            there = predictions(f"{name}-development", 0.8, random.random(60) < 0.4, 99 + k)
            development = {"injected": Predictions(**{**there.__dict__, "task": name, "split": "development"})}
        asked = None
        if not seen:
            own = dict(zip(rows["injected"].samples, rows["injected"].scores))
            asked = {"lung opacity": own, "COVID-19": {key: random.random() for key in own}}
        metrics[name] = score_rows(rows, seen=seen, development=development, asked=asked, draws=200)
        if not seen:
            metrics[name]["proxy"] = "lung opacity"
    truth = ("yes", "no", "left lung", "mass, nodule") * 10
    ids = tuple(f"q{i}" for i in range(40))
    said = tuple(answer if i % 3 else "" for i, answer in enumerate(truth))
    written = Predictions(
        task="MedVQA",
        split="test",
        samples=ids,
        patients=ids,
        truth=truth,
        generated=said,
        templates=("a", "a", "b", "b") * 10,
    )
    metrics["MedVQA"] = score_rows({"injected": written}, seen=False, draws=200)
    weights = random.dirichlet(np.ones(12) * 5, size=len(names))
    rounds = [
        {
            "round": r,
            "sites": {
                site: {
                    "loss": 0.7 * 0.9**r + 0.02 * i,
                    "bytes_sent": 3_000_000 + 100_000 * i,
                    "bytes_received": 3_100_000,
                    "num_examples": {"encoder.image": 100 + i, "decoder.opacity": 90},
                }
                for i, site in enumerate(SITES)
                if not (site == "site-3" and r == 2)
            },
            "injection": {
                "loss": [0.7 * 0.95 ** (r + s / 20) + 0.05 * random.random() for s in range(20)],
                "entropy": 0.96,
            },
            "development": dict.fromkeys(names[:4], 0.5 + 0.03 * r),
            "development_small": dict.fromkeys(names[:4], 0.55 + 0.03 * r),
        }
        for r in range(1, 7)
    ]
    return {
        "run_info": {
            "recipe": "demo",
            "method": "FEDKIM",
            "llm": "smollm2-135m",
            "seconds": 251.3,
            "config": '[federation]\nsites = 5\nnote = "<b>&"',
            "versions": {"torch": "2.13.0"},
        },
        "train_info": {"rounds": rounds, "digest": "ab" * 32},
        "metrics": metrics,
        "routes": {
            "experts": 12,
            "tasks": {name: row.tolist() for name, row in zip(names, weights)},
            "entropy": {name: float(-(row * np.log(row)).sum() / np.log(12)) for name, row in zip(names, weights)},
            "total_variation": float(np.abs(weights[0] - weights[1]).sum() / 2),
        },
        "meta_info": {"synthetic": True, "data": "phantom federation", "created": "2026-01-01"},
    }


@pytest.fixture(scope="module")
def page(result):
    return render(result)


def numbers(node):
    """Every score in the result: value and interval."""
    if isinstance(node, dict):
        if "skipped_draws" in node:
            yield node
        for child in node.values():
            yield from numbers(child)


def test_the_page_shows_every_score_with_its_interval(result, page):
    scores = list(numbers(result["metrics"]))
    assert len(scores) > 300
    for score in scores:
        assert words.interval(score) in page


def test_the_page_shows_the_run(result, page):
    for r in result["train_info"]["rounds"]:
        for site in r["sites"].values():
            assert words.figure(site["loss"]) in page
            assert words.size(site["bytes_sent"]) in page
            assert f"<td>{site['num_examples']['encoder.image']}</td>" in page
    for task, weights in result["routes"]["tasks"].items():
        assert task in page
        for alpha in weights:
            assert words.figure(alpha) in page
        assert words.figure(result["routes"]["entropy"][task]) in page
    assert words.figure(result["routes"]["total_variation"], 4) in page
    assert result["train_info"]["digest"] in page
    assert "4 min 11 s" in page


def test_the_page_loads_nothing_from_elsewhere(page):
    assert not re.search(r"(src|href|action|data|poster)\s*=|url\(|@import|https?:|<script|<link|<iframe", page)


def test_the_page_is_small(page):
    assert len(page.encode()) < 1_000_000


def test_the_page_is_well_formed(page):
    void = {"meta", "br", "line", "circle", "path", "rect"}

    class Balance(HTMLParser):
        stack: list[str]

        def handle_starttag(self, tag, attrs):
            if tag not in void:
                self.stack.append(tag)

        def handle_startendtag(self, tag, attrs):
            assert tag in void

        def handle_endtag(self, tag):
            if tag not in void:
                assert self.stack.pop() == tag

    parser = Balance()
    parser.stack = []
    parser.feed(page)
    assert parser.stack == []


def test_synthetic_data_carry_a_banner_and_real_ones_do_not(result, page):
    assert "Synthetic phantom data" in page
    real = render({**result, "meta_info": {"synthetic": False}})
    assert "ynthetic" not in real


def test_privacy_and_purpose_are_told_word_for_word(page):
    assert PRIVACY in page.replace("&#39;", "'")
    assert "Not a medical device" in page


def test_the_page_says_how_often_patients_were_redrawn():
    assert "redraw whole patients 2,000 times" in render({"run_info": {"draws": 2000}})
    assert "redraw whole patients many times" in render({})


def test_what_a_recipe_says_is_shown_as_text_not_as_markup(page):
    assert "note = &#34;&lt;b&gt;&amp;&#34;" in page


def test_findings_count_what_the_scores_say(result, page):
    seen = [entry for entry in result["metrics"].values() if entry["seen"]]
    above = sum(entry["rows"]["injected"]["primary"]["low"] > 0.5 for entry in seen)
    assert f"AUROC interval lies above 0.5 on {above} of {len(seen)}" in page
    assert "sepsis like lung opacity (+1.000)" in page


def test_transfer_is_claimed_only_with_an_interval_above_zero(result):
    entry = json.loads(json.dumps(result["metrics"]["sepsis"]))
    for low, claimed in ((0.001, "sepsis"), (-0.001, "none")):
        entry["differences"]["proxy"]["low"] = low
        page = render({"metrics": {"sepsis": entry}})
        assert f"injected − proxy has an interval above 0: {claimed} (of 1" in page


def test_a_run_that_was_only_trained_still_gets_a_page(result):
    page = render({key: result[key] for key in ("run_info", "train_info")})
    assert "Loss at the sites" in page
    assert "Every number" not in page
    assert render({})


def test_scores_on_development_are_named_so(result, page):
    entry = {**result["metrics"]["sepsis"], "split": "development"}
    assert "The test split has not been used" in render({"metrics": {"sepsis": entry}})
    assert "The test split has not been used" not in page


def test_a_pooled_run_shows_the_digest_of_each_fold(result):
    train = {"rounds": result["train_info"]["rounds"], "digests": ["aa11", "bb22"]}
    page = render({"run_info": {"folds": [0, 1]}, "train_info": train})
    assert "fold 1: <code>aa11" in page
    assert "fold 2: <code>bb22" in page
    assert "pooled over 2 folds" in page


def test_scores_that_do_not_exist_are_dashes_with_their_reason(result):
    one_class = predictions("rare", 1.0, np.zeros(10, bool), 0)
    page = render({"metrics": {"rare": score_rows({"injected": one_class}, seen=True, draws=50)}})
    assert "no sample with the answer &#39;Yes&#39;" in page
    assert not re.search(r"\bnan\b", page, re.IGNORECASE)
    assert "None" not in page


def test_the_file_is_written_whole_and_into_new_folders(result, tmp_path):
    path = write_report(result, tmp_path / "new" / "report.html")
    assert path.read_text(encoding="utf-8") == render(result)
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    (tmp_path / "file").write_text("")
    with pytest.raises(FedkimError, match="report"):
        write_report(result, tmp_path / "file" / "report.html")


def test_equal_results_give_equal_pages(result, page):
    assert render(json.loads(json.dumps(result))) == page


def test_an_even_route_is_light_and_three_times_its_share_is_darkest():
    routes = {"experts": 4, "tasks": {"even": [0.25] * 4, "one": [1.0, 0.0, 0.0, 0.0]}, "entropy": {}}
    even, one = training.routing(routes)["lines"]
    assert {cell["shade"] for cell in even["cells"]} == {"0.283"}
    assert [cell["shade"] for cell in one["cells"]] == ["0.850", "0.000", "0.000", "0.000"]


def test_the_page_shows_what_is_wrong_with_the_router_and_the_nearest_seen_route(result):
    names = list(result["routes"]["tasks"])
    told = {
        **result["routes"],
        "usage": [1 / 12] * 12,
        "warnings": ["route of covid (image) has <collapsed>"],
        "nearest": {names[-1]: {"task": names[0], "total_variation": 0.1234}},
    }
    page = render({**result, "routes": told})
    assert "route of covid (image) has &lt;collapsed&gt;" in page
    assert f"<td>{names[0]} (0.123)</td>" in page
    assert "mean of the seen tasks" in page
    bare = render(result)
    assert not any(words in bare for words in ("mean of the seen tasks", "nearest seen route"))


def test_development_curves_appear_even_if_only_the_small_models_were_scored():
    rounds = [{"round": 1, "development": {}, "development_small": {"covid": 0.6}}]
    (item,) = training.development(rounds)
    assert (item["task"], item["last"]) == ("covid", "")
    assert "small model: 0.600" in item["plot"]


def test_ticks_are_round_and_cover_the_range():
    assert drawing.ticks(0, 1) == [0, 0.2, 0.4, 0.6, 0.8, 1.0]
    assert drawing.ticks(1, 10, whole=True) == [0, 2, 4, 6, 8, 10]
    assert drawing.ticks(0.62, 0.69)[0] <= 0.62
    assert drawing.ticks(0.62, 0.69)[-1] >= 0.69


def test_a_gap_in_a_line_is_not_bridged():
    line = drawing.Series(name="a", points=[(1, 0.1), (2, None), (3, 0.3), (4, 0.4)])
    path = re.search(r'<path class="line[^"]*" d="([^"]*)"', drawing.line_chart([line], x_label="x", y_label="y"))[1]
    assert path.count("M") == 2
    assert path.count("L") == 1


def test_a_marker_stands_where_its_value_is():
    drawn = drawing.strip(0.7, 0.6, 0.8, marker="main", title="t", marks=[0.5], chance=0.5, span=(0.4, 1.0))
    assert 'class="chance" x1="16.67%"' in drawn
    assert 'x="50.00%"' in drawn
    assert 'x1="33.33%"' in drawn
    assert 'x2="66.67%"' in drawn


@pytest.mark.parametrize(("seconds", "text"), [(3.21, "3.2 s"), (61, "1 min 01 s"), (3700, "1 h 01 min")])
def test_durations_read_well(seconds, text):
    assert words.duration(seconds) == text


def test_sizes_read_well():
    assert [words.size(n) for n in (12, 2048, 3 * 2**20)] == ["12 B", "2.0 KiB", "3.0 MiB"]
    assert words.figure(-0.1234) == "−0.123"
    assert words.listed(["a", "b", "c"]) == "a, b and c"


def test_importing_the_room_loads_no_plotting_library_and_no_templates():
    code = "import sys, fedkim.report; print([m for m in ('matplotlib', 'jinja2', 'torch') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
