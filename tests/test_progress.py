import errno
import io
import re
from concurrent.futures import ThreadPoolExecutor

from fedkim.progress import Plain, Silent, progress_on


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def test_plain_lines_come_every_ten_seconds_with_count_fields_and_time_left():
    stream, clock = io.StringIO(), Clock()
    with Plain(stream, clock=clock).stage("injection", 100) as stage:
        for step in range(1, 31):
            clock.now = step
            stage.advance(loss=1 / step)
    lines = stream.getvalue().splitlines()
    assert lines[0] == "injection 10/100, loss 0.1, 90 s left".replace("90 s", "1 min 30 s")
    assert lines[1] == "injection 20/100, loss 0.05, 80 s left"
    assert lines[-1] == "injection 30/100 in 30 s"
    assert len(lines) == 4


def test_time_left_after_a_resume_is_that_of_this_process():
    stream, clock = io.StringIO(), Clock()
    with Plain(stream, clock=clock).stage("rounds", 10, done=8) as stage:
        clock.now = 30
        stage.advance(0)  # nothing has been done yet that a rate could be taken from
        clock.now = 60
        stage.advance()
    assert stream.getvalue().splitlines()[0] == "rounds 9/10, 60 s left"


def test_a_log_whose_disk_is_full_costs_nothing_but_its_lines():
    class Full(io.StringIO):
        def flush(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    Plain(Full()).line("round 1")


def test_short_work_makes_no_lines():
    stream = io.StringIO()
    with Plain(stream).stage("sites", 3) as stage:
        stage.advance(3)
    assert stream.getvalue() == ""


def test_what_stands_in_a_log_has_no_control_characters():
    stream = io.StringIO()
    with progress_on(stream) as progress, progress.stage("rounds", 2) as rounds:
        rounds.advance()
        progress.line("round 1: loss 0.5 [not markup]")
    assert stream.getvalue() == "round 1: loss 0.5 [not markup]\n"


def test_a_terminal_gets_bars_with_counts_and_lines_stay_as_written():
    stream = Terminal()
    with progress_on(stream) as progress, progress.stage("rounds", 2) as rounds:
        with progress.stage("injection", 4) as steps:
            steps.advance(2, loss=0.25)
            progress._bars.refresh()  # else it waits for the next tenth of a second
            progress.line("round 1: [bold]loss[/bold] 0.5")
        rounds.advance()
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", stream.getvalue())
    assert "round 1: [bold]loss[/bold] 0.5" in text
    assert "2/4" in text
    assert "loss 0.25" in text


def test_stages_count_right_from_many_threads():
    stream, clock = io.StringIO(), Clock()
    progress = Plain(stream, every=0.0, clock=clock)
    with progress.stage("sites", 400) as stage, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: stage.advance(), range(400)))
    assert stream.getvalue().splitlines()[-1].startswith("sites 400/400")


def test_silence_is_silent(capsys):
    with Silent().stage("rounds", 3) as stage:
        stage.advance(loss=1.0)
    Silent().line("nothing")
    assert capsys.readouterr() == ("", "")
