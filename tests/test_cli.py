import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedkim.cli import main
from fedkim.evaluation.result import Result
from fedkim.recipe import Recipe, from_dict, load
from fedkim.store.run_store import RunStore

VERBS = ("demo", "run", "evaluate", "predict", "export", "tasks", "report")
SMOKE = Path(__file__).parents[1] / "recipes" / "smoke.toml"


@pytest.fixture
def told(capsys):
    """The exit status of a command, its one line on stderr (or nothing), what it printed."""

    def tell(*arguments):
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        return status, err.rstrip("\n"), out

    return tell


@pytest.fixture
def stored_run(tmp_path):
    """A folder with a recipe and no round."""
    folder = tmp_path / "runs" / "mine"
    RunStore.open(folder, load(SMOKE)).close()
    return folder


def mistake(told, *arguments):
    status, err, out = told(*arguments)
    assert status == 2
    assert out == ""
    assert "Traceback" not in err
    line = err.splitlines()[-1]  # what was done until then may stand above
    assert line.startswith("fedkim: error: ")
    return line.removeprefix("fedkim: error: ")


# help ------------------------------------------------------------------------------------------------------------


def without(heavy, *arguments):
    """What a command prints in a process of its own, in which none of these modules may be loaded at the end."""
    code = (
        "import sys; from fedkim.cli import main; status = main(sys.argv[1:]); "
        f"heavy = {set(heavy)!r} & set(sys.modules); "
        "sys.exit(str(heavy) if heavy else status)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], *([verb, "--help"] for verb in VERBS)], ids=" ".join)
def test_help_needs_no_heavy_imports(arguments):
    assert "fedkim" in without(["torch", "transformers", "pandas", "sklearn", "numpy", "peft"], *arguments)


def test_how_a_run_stands_is_read_without_torch(stored_run):
    assert without(["torch", "transformers", "pandas"], "status", stored_run).startswith("stopped (in-process)")


def test_a_stored_result_is_shown_without_torch(stored_run):
    with RunStore.open(stored_run, load(SMOKE)) as store:
        store.write_result(make_result(), Path.touch)
    (stored_run / "report.html").write_text("its page")
    told = without(["torch", "transformers", "pandas"], "run", SMOKE, "--out", stored_run)
    assert "this is the stored result" in told


@pytest.mark.parametrize("arguments", [["--help"], ["tasks"], ["status", "{run}"]], ids=" ".join)
def test_a_reader_who_has_seen_enough_ends_the_command_as_it_ends_others(arguments, stored_run):
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-m", "fedkim", *(one.format(run=stored_run) for one in arguments)],
        stdout=writer,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, "")


def test_every_option_is_explained(told):
    for verb in VERBS:
        _, _, text = told(verb, "--help")
        options = re.findall(r"^│\s+\*?\s*(--?[a-z][a-z-]*.*?)│$", text, flags=re.MULTILINE)
        for line in options:
            assert len(re.split(r"\s{2,}", line.strip())) >= 2, f"{verb}: {line}"


# mistakes --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["runn"], 'Unknown command "runn". Did you mean "run"?'),
        (["run"], "RECIPE requires an argument"),
        (["run", "demo", "--forse"], "Did you mean --force?"),
        (["run", "dem"], "unknown recipe 'dem'; did you mean 'demo'?"),
        (["run", "no/such.toml"], "recipe no/such.toml, found no such file; check the path"),
        (["run", "smoke", "--set", "federation.round=2"], "unknown key 'round' in [federation]; did you mean 'rounds'?"),
        (["run", "smoke", "--folds", "0,9"], "--folds, found '0,9', expected all, or different numbers of 0 to 4"),
        (["run", "smoke", "--folds", "1,1"], "--folds, found '1,1'"),
        (["run", "smoke", "--check", "--set", "tasks.seen=['coivd']"], "unknown task 'coivd'; did you mean 'covid'?"),
        (["run", "smoke", "--check", "--set", "llm.name=tinny"], "'tinny'; did you mean 'tiny'?"),
        (["run", "smoke", "--check", "--set", "data.source=phantm"], "did you mean 'phantom'?"),
        (["run", "smoke", "--check", "--set", "federation.algorithm=fedpox"], "did you mean 'fedprox'?"),
        (["run", "smoke", "--check", "--set", "extraction.encoders.image=cn"], "did you mean 'cnn'?"),
        (["run", "smoke", "--check", "--set", "run.plugins=['no_such_module']"], "plug-in 'no_such_module'"),
        (["evaluate", "no/run"], "run folder no/run, found no such folder"),
        (["predict", "no/run", "--task", "covid"], "run folder no/run, found no such folder"),
        (["export", "no/run", "--task", "covid", "--to", "x"], "run folder no/run, found no such folder"),
        (["export", "no/run", "--task", "covid"], "--to"),
        (["report", "no/run"], "run folder no/run, found no such folder"),
        (["tasks", "dem"], "did you mean 'demo'?"),
    ],
)  # fmt: skip
def test_a_mistake_ends_with_status_2_and_one_line(told, arguments, message):
    assert message in mistake(told, *arguments)


def test_a_mistake_in_a_process_of_its_own_shows_no_traceback(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "fedkim", "run", "nowhere.toml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "fedkim: error: recipe nowhere.toml, found no such file; check the path\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_no_run_is_refused_and_left_alone(told, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert "files, but no recipe.json" in mistake(told, "run", "smoke", "--out", tmp_path, "--force")
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_folder_with_another_recipes_run_is_refused(told, stored_run):
    with RunStore.open(stored_run, load(SMOKE)) as store:
        store.write_result(make_result(), Path.touch)
    message = mistake(told, "run", "smoke", "--out", stored_run, "--set", "run.seed=9")
    assert "run.seed is 0 there, 9 here" in message
    assert "--force" in message


def test_limits_below_zero_and_options_without_effect_are_refused(told, tmp_path):
    (tmp_path / "site.toml").write_text("")
    assert mistake(told, "forgetting", tmp_path, "--questions", "-5").startswith("--questions, found -5")
    assert mistake(told, "forgetting", tmp_path, "--texts", "-1").startswith("--texts, found -1")
    twins = [tmp_path / "a" / "fold-0", tmp_path / "b" / "fold-0"]
    said = mistake(told, "forgetting", *twins, "--results", tmp_path)
    assert said.startswith("--results, found two runs named 'fold-0'")  # the second would have replaced the first
    assert "found --contents beside a site.toml" in mistake(told, "data", "check", tmp_path / "site.toml", "--contents")


def test_a_matrix_that_begins_with_its_cells_is_told_from_a_recipe(told, tmp_path):
    (tmp_path / "mine.toml").write_text('[[cells]]\nmethods = ["fedkim"]\nseeds = [1]\n')
    assert "fedkim experiment" in mistake(told, "run", tmp_path / "mine.toml")


def test_a_folder_in_use_is_refused_naming_the_process(told, stored_run):
    with RunStore.open(stored_run, load(SMOKE)):
        assert f"process {os.getpid()} at work" in mistake(told, "run", "smoke", "--out", stored_run)


def test_a_report_of_an_unfinished_run_is_refused(told, stored_run):
    assert "found no result yet" in mistake(told, "report", stored_run)


# predict ---------------------------------------------------------------------------------------------------------


def test_predict_names_the_unknown_task_with_a_hint(told, stored_run):
    assert "unknown task 'covidd'; did you mean 'covid'?" in mistake(told, "predict", stored_run, "--task", "covidd")


@pytest.mark.parametrize(
    ("task", "option"), [("covid", "--image"), ("ecg_abnormal", "--signal"), ("mortality", "--table")]
)
def test_predict_without_a_needed_modality_names_it_and_its_option(told, stored_run, task, option):
    message = mistake(told, "predict", stored_run, "--task", task)
    assert re.match(r"modality '\w+', found nothing", message)
    assert option in message


def test_predict_on_a_free_text_task_needs_a_question(told, stored_run, tmp_path):
    assert "--question" in mistake(told, "predict", stored_run, "--task", "vqa_rad", "--image", tmp_path / "x.png")


@pytest.mark.parametrize(("closed", "status"), [("> /dev/full", 2), (">&-", 0)])
def test_output_that_can_t_be_written_shows_no_traceback(closed, status):
    command = f"{sys.executable} -m fedkim tasks {closed}"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.returncode == status
    assert done.stderr == ("fedkim: error: No space left on device\n" if status else "")


def test_a_name_that_no_folder_can_have_is_told_in_one_line(told):
    assert mistake(told, "run", SMOKE, "--out", "a" * 300).endswith("File name too long")


def test_predict_refuses_a_file_that_the_task_doesnt_read(told, stored_run, tmp_path):
    message = mistake(told, "predict", stored_run, "--task", "covid", "--signal", tmp_path / "ecg.csv")
    assert message == "task 'covid', found --signal, expected --image"


def test_predict_before_the_first_round_says_what_to_do(told, stored_run, tmp_path):
    from PIL import Image

    Image.effect_noise((48, 48), 60).save(tmp_path / "x.png")
    message = mistake(told, "predict", stored_run, "--task", "covid", "--image", tmp_path / "x.png")
    assert "no committed round" in message


# what works ------------------------------------------------------------------------------------------------------


def test_tasks_are_listed_with_what_they_need(told):
    status, _, text = told("tasks")
    assert status == 0
    for name in ("lung_opacity", "mortality", "sepsis", "pneumonia"):
        assert name in text
    assert "free text" in text


def test_tasks_of_a_recipe_say_which_are_seen(told):
    _, _, text = told("tasks", "smoke")
    assert re.search(r"covid\s+│ seen", text)
    assert re.search(r"sepsis\s+│ unseen", text)
    assert "pneumonia" not in text.replace("RSNA pneumonia", "")


def test_check_prints_a_plan_and_writes_nothing(told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    status, _, text = told("run", SMOKE, "--check")
    assert status == 0
    assert re.search(r"LLM\s+106,816 parameters", text)
    assert "memory" in text
    assert list(tmp_path.iterdir()) == []


def make_result(split="development") -> Result:
    score = {"value": 0.8125, "low": 0.75, "high": 0.875, "reason": "", "skipped_draws": 0}
    row = {
        "n": 40, "patients": 40, "metrics": {"auroc": score, "accuracy": score},
        "primary": {"metric": "auroc", "within": None, "n": 40, "patients": 40, **score},
    }  # fmt: skip
    return {
        "run_info": {
            **dict.fromkeys(("method", "backbone", "llm", "config"), "some"),
            **{"recipe": "mine", "seed": 0, "environment": {}, "split": split},
        },
        "train_info": {"rounds": [], "digest": "ab" * 32},
        "metrics": {
            "covid": {
                "task": "covid", "seen": True, "kind": "classification", "split": split, "n": 40, "patients": 40,
                "primary_metric": "auroc", "within": None, "rows": {"injected": row}, "differences": {},
                "sites": {"metric": "auroc", "by_site": {}, "worst": None},
                "blindness": {},
            }
        },
        "meta_info": {"synthetic": True},
    }  # fmt: skip


def test_a_complete_run_prints_its_stored_table_without_running_again(told, tmp_path):
    folder = tmp_path / "mine"
    with RunStore.open(folder, load(SMOKE)) as store:
        store.write_result(make_result(), Path.touch)
    before = (folder / "result.json").stat().st_mtime_ns
    status, err, text = told("run", SMOKE, "--out", folder)
    assert (status, err) == (0, "")
    assert "0.81 [0.75, 0.88]" in text
    assert "ab" * 32 in text
    assert "--force runs anew" in text
    assert (folder / "result.json").stat().st_mtime_ns == before


def test_a_run_cut_off_before_its_page_gets_it_with_the_stored_result(told, tmp_path):
    folder = tmp_path / "mine"
    with RunStore.open(folder, load(SMOKE)) as store:
        store.write_result(make_result(), Path.touch)
    told("run", SMOKE, "--out", folder)
    page = folder / "report.html"
    assert "covid" in page.read_text()
    page.write_text("of an earlier result")
    later = (folder / "result.json").stat().st_mtime_ns - 1
    os.utime(page, ns=(later, later))
    told("run", SMOKE, "--out", folder)
    assert "covid" in page.read_text()


@pytest.mark.parametrize("command", [("report",), ("report", "--markdown"), ("run", SMOKE, "--out")])
def test_a_result_with_a_part_missing_is_an_error_in_one_line(told, tmp_path, command):
    folder = tmp_path / "mine"
    with RunStore.open(folder, load(SMOKE)) as store:
        result = make_result()
        del result["metrics"]["covid"]["rows"]["injected"]["primary"]
        store.write_result(result, Path.touch)
    message = mistake(told, *command, folder)
    assert message.startswith(
        f"file {folder / 'result.json'}, found a part missing or something else (KeyError: 'primary')"
    )
    assert not (folder / "report.html").exists()


def test_a_mistake_of_the_program_can_be_told_from_a_changed_result(tmp_path):
    folder = tmp_path / "mine"
    with RunStore.open(folder, load(SMOKE)) as store:
        store.write_result({**make_result(), "metrics": {"covid": {"rows": {}}}}, Path.touch)
    for options, shown in (((), False), (("-X", "dev"), True)):
        command = [sys.executable, *options, "-m", "fedkim", "report", folder]
        told = subprocess.run(command, capture_output=True, text=True, check=False).stderr
        assert ("Traceback" in told, "python -X dev" in told) == (shown, not shown)


def test_a_full_disk_behind_the_messages_leaves_the_status(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run([sys.executable, "-m", "fedkim", "report", tmp_path], stderr=full, check=False)
    assert done.returncode == 2


def test_a_report_is_written_anew_from_the_stored_result(told, tmp_path):
    folder = tmp_path / "mine"
    with RunStore.open(folder, Recipe()) as store:
        store.write_result(make_result(), Path.touch)
    status, _, text = told("report", folder)
    assert status == 0
    assert text.strip() == str(folder / "report.html")
    assert "covid" in (folder / "report.html").read_text()


# interruptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("number", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_ends_with_its_status_and_says_how_to_go_on(number, status, word):
    code = (
        "import sys, time; import fedkim.cli.app as app\n"
        "@app.app.command\n"
        "def wait():\n    print('waiting', flush=True); time.sleep(60)\n"
        "sys.exit(app.main(['wait']))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "waiting\n"
    child.send_signal(number)
    _, err = child.communicate(timeout=10)
    assert (child.returncode, err) == (status, f"fedkim: {word}; run the same command again to resume\n")


def test_a_second_signal_ends_at_once():
    code = (
        "import sys, time; import fedkim.cli.app as app\n"
        "@app.app.command\n"
        "def wait():\n"
        "    try:\n        print('waiting', flush=True); time.sleep(60)\n"
        "    finally:\n        print('unwinding', flush=True); time.sleep(60)\n"
        "sys.exit(app.main(['wait']))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert child.stdout.readline() == "waiting\n"
    child.send_signal(signal.SIGINT)
    assert child.stdout.readline() == "unwinding\n"
    child.send_signal(signal.SIGINT)
    assert child.wait(timeout=5) == 130


def run_smoke(folder, cache):
    """A run of five rounds in a process of its own."""
    command = [sys.executable, "-m", "fedkim", "run", str(SMOKE), "--out", str(folder)]
    command += ["--set", "federation.rounds=5", "--set", "evaluation.blind=false"]
    return subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"FEDKIM_CACHE": str(cache)},
    )


@pytest.mark.slow
def test_interrupted_by_every_means_a_run_ends_with_the_same_weights(tmp_path):
    whole = run_smoke(tmp_path / "whole", tmp_path)
    out, err = whole.communicate(timeout=300)
    assert whole.returncode == 0, err
    for number, after, status in ((signal.SIGKILL, 1, -9), (signal.SIGINT, 2, 130), (signal.SIGTERM, 4, 143)):
        child = run_smoke(tmp_path / "broken", tmp_path)
        begin = time.monotonic()
        while not (tmp_path / "broken" / "rounds" / f"round-{after:04d}.json").exists():
            assert time.monotonic() - begin < 120
            assert child.poll() is None, child.stderr.read()
            time.sleep(0.02)
        child.send_signal(number)
        child.communicate(timeout=15)
        assert child.returncode == status
    last = run_smoke(tmp_path / "broken", tmp_path)
    again, err = last.communicate(timeout=300)
    assert "resuming after round" in err
    digest = re.search("digest of the weights ([0-9a-f]{64})", out)[1]
    assert digest in again
    results = [json.loads((tmp_path / name / "result.json").read_text()) for name in ("whole", "broken")]
    assert results[0]["metrics"] == results[1]["metrics"]
    resumed = [event["round"] for event in RunStore(tmp_path / "broken").events if event["event"] == "resumed"]
    assert resumed == sorted(resumed)
    assert len(resumed) == 3
    assert from_dict(json.loads((tmp_path / "broken" / "recipe.json").read_text())["recipe"]).federation.rounds == 5


def test_a_matrix_is_no_recipe_and_says_which_verb_runs_it(told):
    assert "a matrix of runs; fedkim experiment real-pack-fold" in mistake(told, "run", "real-pack-fold", "--check")
    path = SMOKE.with_name("paper-matrix.toml")
    assert f"a matrix of runs; fedkim experiment {path}" in mistake(told, "run", path, "--check")
    assert "paper-matrix" not in mistake(told, "run", "nonsense", "--check")
    assert "did you mean 'paper-matrix'?" in mistake(told, "experiment", "paper-matri", "--list")


def test_the_list_of_cells_shows_those_that_the_same_pattern_would_run(told):
    status, _, out = told("experiment", "paper-matrix", "--list", "--only", "*--fedprox--seed1[01]")
    assert status == 0
    names = [line.split()[-1] for line in out.splitlines()]
    methods = ("fedkim", "fedplug-lora-matched")
    assert sorted(names) == sorted(f"{method}--fedprox--seed{seed}" for method in methods for seed in (10, 11))
    assert "none that match 'nonsense'" in mistake(told, "experiment", "paper-matrix", "--list", "--only", "nonsense")


def test_folds_are_refused_at_the_edge(told):
    assert "no folds" in mistake(told, "run", "demo", "--folds", "all", "--check")
