"""Halfway: the round in progress, kept so that a process that is cut off loses little of it.

Once when the sites' updates are averaged, so that nobody trains again because the injection was cut off, and every so often
during the injection, which is the longest part.
"""

import time
from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor

from fedkim.aggregation import Rejection
from fedkim.federation import Contribution, Gathered
from fedkim.injection import InjectionReport, InjectionTrainer, Injector
from fedkim.progress import Progress
from fedkim.state import State
from fedkim.store.run_store import RunStore


class Halfway:
    """Keeps and recalls the round in progress; ``keep`` and ``recall`` are those that ``federation.federate`` calls.

    Args:
        injector, trainer: brought to where an earlier process was, when a round is recalled.
        store: an open store, or None to keep nothing.
        progress: told of a recalled round.
    """

    def __init__(self, injector: Injector, trainer: InjectionTrainer, *, store: RunStore | None, progress: Progress):
        self.injector, self.trainer, self.store, self.progress = injector, trainer, store, progress
        self._kept_at = 0.0

    def keep(self, round: int, gathered: Gathered, report: InjectionReport | None = None) -> None:
        """Keep what the sites gave and, with a report, how far the injection has come."""
        if not self.store:
            return
        spaces: dict[str, Mapping[str, Tensor]] = {"aggregated": gathered.aggregated, "memory": gathered.memory}
        if report:  # before its first step, injector and optimiser are as the last round left them
            spaces |= {"injector": self.injector.tensors(), "optimizer": self.trainer.optimizer.tensors()}
        record = {
            "contributions": [asdict(contribution) for contribution in gathered.contributions],
            "rejections": [asdict(rejection) for rejection in gathered.rejections],
            "sent": dict(gathered.sent),
            "seconds": gathered.seconds,
            "report": asdict(report) if report else None,
        }
        self.store.keep_halfway(round, report.steps if report else 0, State.joined(spaces), record)
        self._kept_at = time.monotonic()

    def is_due(self, seconds: float) -> bool:
        """Whether something was kept last so many seconds ago."""
        return self.store is not None and time.monotonic() - self._kept_at >= seconds

    def recall(self, round: int) -> Gathered | None:
        """What an earlier process kept of this round, with injector and optimiser brought to where it was; ``begun`` is its report."""
        halfway = self.store.halfway(round) if self.store else None
        if not self.store or not halfway:
            return None
        manifest = halfway.manifest
        begun = None
        if manifest["report"]:
            self.injector.load(halfway.namespace("injector"), whole=True)
            self.trainer.optimizer.load(halfway.namespace("optimizer"))
            begun = InjectionReport(**manifest["report"])
        step = manifest["step"]
        self.store.event("resumed", round=round, step=step)
        self.progress.line(f"resuming in round {round}, after {step} steps of injection")
        contributions = [
            Contribution(**{**record, "components": tuple(record["components"])})
            for record in manifest["contributions"]
        ]
        self._kept_at = time.monotonic()
        return Gathered(
            contributions=contributions,
            rejections=[Rejection(**record) for record in manifest["rejections"]],
            aggregated=halfway.namespace("aggregated"),
            memory=halfway.namespace("memory"),
            sent=manifest["sent"],
            seconds=manifest["seconds"],
            begun=begun,
        )
