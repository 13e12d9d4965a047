"""A site's answer to one request: policy, training, the gate at the way out, the audit log, and only then the bytes."""

import contextlib
import math
import threading
import time
import traceback
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch

from fedkim.aggregation import make_algorithm
from fedkim.aggregation import objection as gate_objection
from fedkim.aggregation.gate import is_finite
from fedkim.engines.flower.messages import Reply, Request, request_from, to_header, unanswered
from fedkim.engines.flower.wire import component_digests, encode, state_from
from fedkim.errors import FedkimError
from fedkim.extraction import Extractor, train_site
from fedkim.recipe import Recipe
from fedkim.site.audit import AuditLog, tensors_of
from fedkim.site.participant import Participant
from fedkim.site.policy import Refusal, objection
from fedkim.site.shard import Shard, load_shard
from fedkim.state import State, Update

KEPT = 3
"""States of a component that a site keeps, so that they needn't be sent again."""


class Answering:
    """Holds a site's data and answers requests, one at a time.

    Args:
        site: its file.
        audit: its log; None for a dry run, of which nothing is kept.

    Raises:
        FedkimError: the approved recipe was changed, or something is wrong with the data.
    """

    def __init__(self, site: Participant, audit: AuditLog | None):
        self.site, self.audit = site, audit
        self.recipe: Recipe = site.recipe()
        torch.set_num_threads(self.recipe.run.threads)
        self.shard: Shard = load_shard(site, self.recipe)
        self.algorithm = make_algorithm(self.recipe.federation)
        shapes = {n: s for n, s in self.shard.dataset.shapes().items() if f"encoder.{n}" in self.shard.examples}
        held = [task for task in self.shard.tasks if f"decoder.{task.name}" in self.shard.examples]
        self.shape = Extractor(
            tasks=held, shapes=shapes, settings=self.recipe.extraction, seed=self.recipe.run.seed
        ).state()
        self._kept: dict[str, dict[str, State]] = {}
        self._last: tuple[tuple[object, ...], Reply, bytes] | None = None
        self._busy = threading.Lock()

    def answer(self, header: Mapping[str, Any], body: bytes) -> tuple[dict[str, Any], bytes]:
        """The reply's header and body. Never raises: a traceback could carry a patient's value."""
        try:
            request = request_from(header)
        except (FedkimError, TypeError) as error:
            print(told(error), flush=True)
            return unanswered(header, "refused", "E-REQUEST"), b""
        with self._busy:
            began = time.perf_counter()
            try:
                reply, sent = self._answer(request, body, began)
            except Exception as error:
                print(told(error), flush=True)
                code = (error.code or "E-TRAINING") if isinstance(error, FedkimError) else "E-FAILED"
                reply, sent = self._without(request, "failed", code), b""
                with contextlib.suppress(FedkimError):  # of the log itself: the code alone leaves
                    self._note("failed", request, code=code)
        return to_header(reply), sent

    def _answer(self, request: Request, body: bytes, began: float) -> tuple[Reply, bytes]:
        refusal = self.refusal(request)
        if refusal:
            self._note("refused", request, code=refusal.code)
            return self._without(request, "refused", refusal.code), b""
        question = (request.run, request.round, request.base, request.uploads)
        if self._last and self._last[0] == question:
            reply, sent = self._last[1:]
            head = self._note("resent", request, bytes=len(sent))
            return _again(reply, request, head), sent
        base = self._base(request, body)
        if base is None:
            self._note("need", request)
            return self._without(request, "need", ""), b""
        update = self.train(request.round, base)
        changed, unchanged = encode(update.state, base, uploads=request.uploads)
        sent = changed.to_bytes() if len(changed) else b""
        refusal = self.withheld(update, base, changed, len(sent))
        if refusal:
            self._note("refused", request, code=refusal.code)
            return self._without(request, "refused", refusal.code), b""
        self._remember(update.state)
        tensors = tensors_of(changed)
        head = self._note(
            "sent", request, base=request.base, bytes=len(sent), tensors=tensors, unchanged=list(unchanged),
            num_examples=dict(update.num_examples), metrics=dict(update.metrics),
        )  # fmt: skip
        reply = Reply(
            run=request.run,
            round=request.round,
            site=request.site,
            nonce=request.nonce,
            status="ok",
            base=request.base,
            num_examples=dict(update.num_examples),
            metrics=dict(update.metrics),
            unchanged=unchanged,
            held=self._held(),
            audit=head,
            seconds=time.perf_counter() - began,
        )
        self._last = (question, reply, sent)
        return reply, sent

    def refusal(self, request: Request) -> Refusal | None:
        """What the policy has against a request, or the files that it stands in: changed ones hold once somebody joins anew."""
        if self.site.files() != self.site.read:
            return Refusal(code="E-POLICY-CHANGED", reason="the site's file or its recipe was changed: join again")
        return objection(
            self.site.policy,
            request,
            site=self.site.name,
            cohorts=self.shard.patients,
            answered=self.audit.answered(request.run) if self.audit else (),
        )

    def train(self, round: int, base: State) -> Update:
        """One round of local training."""
        return train_site(
            site=self.site.name,
            round=round,
            dataset=self.shard.dataset,
            state=base,
            tasks=self.shard.tasks,
            settings=self.recipe.extraction,
            penalty=self.algorithm.penalty,
            seed=self.recipe.run.seed,
        )

    def withheld(self, update: Update, base: State, changed: State, num_bytes: int) -> Refusal | None:
        """What the coordinator's own gate or the policy has against what would leave."""
        wrong = gate_objection(update, round=update.round, broadcast=base)
        if wrong:
            return Refusal(code=wrong.code, reason=wrong.reason)
        # finite weights may differ by more than half the bits can tell
        if not all(map(is_finite, changed.values())) or not all(map(math.isfinite, update.metrics.values())):
            return Refusal(code="E-FINITE", reason="NaN or infinity")
        most = self.site.policy.max_bytes
        return Refusal(code="E-POLICY-BYTES", reason=f"more than {most:,} bytes") if num_bytes > most else None

    def _base(self, request: Request, body: bytes) -> State | None:
        """The slice to start from, of what came and what is kept; None if a part is nowhere.

        Raises:
            FedkimError: what came isn't what the request says, or isn't the architecture of the approved recipe.
        """
        came = state_from(body, most=self.shape.num_bytes)
        digests = component_digests(came)
        if any(request.components.get(name) != digest for name, digest in digests.items()):
            raise FedkimError("a request", found="other weights than it names")
        self._remember(came)
        parts = [self._kept.get(name, {}).get(digest) for name, digest in request.components.items()]
        if any(part is None for part in parts):
            return None
        base = State({key: tensor for part in parts if part is not None for key, tensor in part.items()})
        self._require_own_form(base)
        if base.digest() != request.base or not all(map(is_finite, base.values())):
            raise FedkimError("a request", found="other weights than it names, or weights that aren't finite")
        return base

    def _require_own_form(self, base: State) -> None:
        """Sites' own inputs shape their encoders' first layers: with other leads than the coordinator's the same recipe fits no more."""
        came, own = ({key: (tuple(t.shape), t.dtype) for key, t in state.items()} for state in (base, self.shape))
        for key in sorted(came.keys() | own.keys()):
            if came.get(key) != own.get(key):
                found, expected = (f"{form[key][0]} {form[key][1]}" if key in form else "none" for form in (came, own))
                raise FedkimError(
                    f"a request: tensor {key!r}",
                    found=found,
                    expected=f"{expected} by the approved recipe and this site's own inputs",
                    remedy="ask the coordinator for the form of its inputs; data.ecg.leads sets an ECG's leads",
                    code="E-ARCHITECTURE",
                )

    def _remember(self, state: State) -> None:
        for name, digest in component_digests(state).items():
            kept = self._kept.setdefault(name, {})
            kept.pop(digest, None)
            kept[digest] = state.slice([name])
            while len(kept) > KEPT:
                del kept[next(iter(kept))]

    def _held(self) -> dict[str, tuple[str, ...]]:
        return {name: tuple(kept) for name, kept in self._kept.items()}

    def _without(self, request: Request, status: str, code: str) -> Reply:
        """A reply that carries no weights."""
        return Reply(
            run=request.run,
            round=request.round,
            site=request.site,
            nonce=request.nonce,
            status=status,
            code=code,
            held=self._held() if status == "need" else {},
        )

    def _note(self, event: str, request: Request, **fields: Any) -> str:
        if self.audit is None:
            return ""
        return self.audit.append(event, run=request.run, round=request.round, recipe=request.recipe, **fields)


def told(error: Exception) -> str:
    """An error for the site's own log: a mistake in its line, an error of the program by its place and type alone.

    The text of the latter could hold a patient's value.
    """
    if isinstance(error, FedkimError):
        return f"fedkim: error: {error}"
    return "".join(traceback.format_tb(error.__traceback__)) + type(error).__name__


def _again(reply: Reply, request: Request, head: str) -> Reply:
    return replace(reply, nonce=request.nonce, audit=head)
