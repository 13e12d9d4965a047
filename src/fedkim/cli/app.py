"""The shell as a whole: which verbs there are, and how each ends."""

import contextlib
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from typing import Any

from cyclopts import App, CycloptsError, Parameter

from fedkim import __version__
from fedkim.cli.data import data
from fedkim.cli.experiments import compare, experiment, forgetting
from fedkim.cli.interrupts import Terminated, interruptible
from fedkim.cli.llm import llm
from fedkim.cli.models import export, predict
from fedkim.cli.network import coordinator, site, status, stop
from fedkim.cli.runs import demo, evaluate, report, run
from fedkim.cli.tasks import tasks
from fedkim.cli.terminal import terminal
from fedkim.errors import FedkimError

app = App(
    name="fedkim",
    version=f"fedkim {__version__}",
    help="Federated knowledge injection: hospitals teach a medical language model while their data stays with them.",
    default_parameter=Parameter(negative=()),
    help_format="plaintext",
    suppress_keyboard_interrupt=False,
)
for verb in (
    demo,
    run,
    evaluate,
    predict,
    export,
    tasks,
    report,
    experiment,
    compare,
    forgetting,
    llm,
    data,
    coordinator,
    site,
    status,
    stop,
):
    app.command(verb)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit status: 0, 2 for a user's mistake, 130 after Ctrl-C, 143 after SIGTERM."""
    logging.basicConfig(level=logging.WARNING, format="fedkim: %(message)s")
    warnings.filterwarnings("ignore", category=FutureWarning, module="transformers")  # not the user's to heed
    again = "run the same command again to resume"
    if sys.stdout is None:  # closed by whoever started us
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    try:
        with interruptible():
            app(sys.argv[1:] if arguments is None else arguments, console=terminal(), **_QUIET)
            sys.stdout.flush()
    except FedkimError as error:
        return _fail(2, f"error: {error}")
    except CycloptsError as error:
        return _fail(2, f"error: {' '.join(str(error).split())}; see fedkim --help")
    except KeyboardInterrupt:
        return _fail(130, f"interrupted; {again}")
    except Terminated:
        return _fail(143, f"terminated; {again}")
    except BrokenPipeError:  # whoever read our output has seen enough
        _write_no_more()
        return 141
    except OSError as error:  # a disk that is full, a name that is too long
        try:
            sys.stdout.flush()
        except OSError:
            _write_no_more()
        found = error.strerror or " ".join(str(error).split()) or type(error).__name__
        return _fail(2, f"error: {f'{error.filename}: ' if error.filename else ''}{found}")
    return 0


def _write_no_more() -> None:
    """What is still buffered for standard output goes nowhere: writing it at the end of the process would fail again."""
    with contextlib.suppress(OSError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


_QUIET: dict[str, Any] = {
    "exit_on_error": False,
    "print_error": False,
    "result_action": "return_value",
}


def _fail(status: int, text: str) -> int:
    with contextlib.suppress(OSError):  # nobody reads it, or its disk is full: the status says it
        print(f"fedkim: {text}", file=sys.stderr)
    return status
