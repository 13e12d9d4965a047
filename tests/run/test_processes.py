import sys
from signal import SIGTERM

import pytest

from fedkim.run.processes import Processes


def test_a_stopped_parent_starts_no_further_process():
    processes = Processes()
    processes.stop()
    assert processes.start(["no-such-program"]) is None
    with pytest.raises(FileNotFoundError):  # else nothing would have been started anyway
        Processes().start(["no-such-program"])


def test_stopping_ends_what_runs():
    processes = Processes()
    process = processes.start([sys.executable, "-c", "import time; time.sleep(60)"])
    processes.stop()
    assert process.wait(timeout=30) == -SIGTERM


def test_errors_are_kept_only_on_request(capfd):
    command = [sys.executable, "-c", "import sys; print('said'); sys.exit('why')"]
    process = Processes().start(command, keep_errors=True)
    assert process.communicate() == (None, b"why\n")
    assert capfd.readouterr() == ("", "")
    assert Processes().start(command).wait() == 1
    assert capfd.readouterr() == ("", "why\n")
