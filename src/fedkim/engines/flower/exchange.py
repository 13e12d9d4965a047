"""``exchange(round, state)`` over Flower's Grid: each site gets its slice, updates are yielded as they come, and it ends.

Nothing waits for ever. A round ends when every site has answered, when the quorum is there and its grace is over, or at the
deadline. A site whose process died is asked again once it is back.
"""

import secrets
import time
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping

import httpx  # Flower's, whose Grid raises its errors
from flwr.app import Message
from flwr.common.constant import ErrorCode
from flwr.serverapp import Grid

from fedkim.aggregation import Rejection
from fedkim.engines.flower.content import pack, unpack
from fedkim.engines.flower.messages import Request, reply_from, to_header
from fedkim.engines.flower.roster import Node, Registered, online
from fedkim.engines.flower.round_so_far import Asked, RoundSoFar
from fedkim.engines.flower.updates import update_from
from fedkim.engines.flower.waiting import Waiting
from fedkim.engines.flower.wire import component_digests
from fedkim.engines.inprocess import participants
from fedkim.errors import FedkimError
from fedkim.state import State, Update

POLL = 0.3
"""Seconds between two looks for replies."""
ROLL_CALL = 3.0
"""Seconds between two looks at who is connected."""
_PASSING = (ErrorCode.MESSAGE_UNAVAILABLE, ErrorCode.REPLY_MESSAGE_UNAVAILABLE, ErrorCode.NODE_UNAVAILABLE)
"""Flower's errors that say nothing about the site's program."""
_TRANSPORT = (httpx.HTTPError, OSError)
"""Faults between this loop and the SuperLink: they may pass, and say nothing about a site."""
MOST_HELD = 4
"""Digests by component that a site is remembered to hold."""

Tell = Callable[..., None]
"""``tell(event, **fields)``, as :meth:`fedkim.store.events.Events.append`."""


class FlowerExchange:
    """The engine.

    Args:
        grid: Flower's.
        sites: the manifest's, by name. No other node is ever sent anything.
        run: the federation's run, the same after a restart.
        recipe: digest of the recipe that the sites approved.
        waiting: deadlines and quorum.
        uploads: form of the sites' uploads, see :mod:`fedkim.engines.flower.wire`.
        participation: share of the sites in a round.
        seed: the run's.
        tell: takes events.
    """

    def __init__(
        self,
        grid: Grid,
        sites: Mapping[str, Registered],
        *,
        run: str,
        recipe: str,
        waiting: Waiting,
        uploads: str = "float32",
        participation: float = 1.0,
        seed: int = 0,
        tell: Tell = lambda event, **fields: None,
    ):
        self.grid, self.sites, self.run, self.recipe = grid, dict(sites), run, recipe
        self.waiting, self.uploads, self.participation, self.seed, self.tell = (
            waiting,
            uploads,
            participation,
            seed,
            tell,
        )
        self._here: dict[str, Node] = {}
        self._held: dict[str, dict[str, list[str]]] = {}
        self._processes: dict[str, str] = {}

    def quorum(self, number: int) -> int:
        """Good answers that a round of so many sites needs."""
        return min(self.waiting.quorum or number, number)

    def wait_for_sites(self) -> list[str]:
        """Wait until every site is connected, or the quorum is and the time is up; gives those that are.

        Raises:
            FedkimError: fewer than the quorum came in time.
        """
        end, told = time.monotonic() + self.waiting.start_wait, set[str]()
        while True:
            here = set(self._online())
            for site in sorted(here - told):
                self.tell("connected", site=site)
            told |= here
            if here == set(self.sites):
                return sorted(here)
            if time.monotonic() >= end:
                break
            time.sleep(min(1.0, self.waiting.start_wait))
        if len(here) >= self.quorum(len(self.sites)):
            return sorted(here)
        raise FedkimError(
            "start of the federation",
            found=f"{len(here)} of {len(self.sites)} sites connected after {self.waiting.start_wait:g} s",
            expected=f"at least {self.quorum(len(self.sites))}",
            remedy=f"missing: {', '.join(sorted(set(self.sites) - here))}; the same command resumes",
        )

    def __call__(self, round: int, state: State) -> Iterator[Update | Rejection]:
        """Updates as they arrive, and at the end who gave none and why.

        Raises:
            FedkimError: too few good answers, attempt after attempt.
        """
        chosen = participants(list(self.sites), share=self.participation, seed=self.seed, round=round)
        slices = {site: state.slice(self.sites[site].declared) for site in chosen}
        quorum = self.quorum(len(chosen))
        ours = RoundSoFar(number=round, slices=slices, contributors=self._contributors(chosen, quorum))
        for attempt in range(1, self.waiting.attempts + 1):
            ours.begin()
            yield from self._attempt(ours, quorum)
            if len(ours.good) >= quorum:
                yield from ours.rejections()
                return
            self.tell("round-skipped", round=round, accepted=len(ours.good), step=attempt)
        missing = [f"{site} ({ours.why.get(site, 'no answer')})" for site in sorted(set(chosen) - ours.good)]
        raise FedkimError(
            f"round {round}",
            found=f"{len(ours.good)} of {len(chosen)} sites answered in {self.waiting.attempts} attempts",
            expected=f"at least {quorum}",
            remedy=f"missing: {', '.join(missing)}; the same command resumes at this round",
        )

    def _contributors(self, chosen: Collection[str], quorum: int) -> dict[str, int]:
        """By component, how many sites at least give it in a round that comes about, whoever is asked included: its owners among
        those ``chosen`` for the round, less all whom the quorum can do without.
        """
        owners = Counter(name for site in chosen for name in self.sites[site].declared)
        return {name: max(1, number - (len(chosen) - quorum)) for name, number in owners.items()}

    def _attempt(self, ours: RoundSoFar, quorum: int) -> Iterator[Update]:
        end, in_grace = time.monotonic() + self.waiting.deadline, False
        asked: dict[str, Asked] = {}
        roll_call = 0.0
        while True:
            now = time.monotonic()
            if now >= roll_call:
                roll_call = now + ROLL_CALL
                here = self._online()
                for message, question in list(asked.items()):
                    node = here.get(question.site)
                    if node and node != question.node:
                        del asked[message]  # another process by now
                self._ask(ours, here, asked, end - now)
            for reply in self._pulled(ours, asked):
                answered = asked.pop(reply.metadata.reply_to_message_id, None)
                if answered is None:
                    continue
                update = self._opened(ours, answered, reply)
                if update:
                    yield update
                roll_call = 0.0
            missing = set(ours.slices) - ours.good - ours.out
            if not missing:
                return
            if len(ours.good) >= quorum and not in_grace:
                in_grace, end = True, min(end, time.monotonic() + self.waiting.grace)
            if time.monotonic() >= end:
                break
            time.sleep(POLL)
        for site in sorted(missing):
            self.tell("absent", round=ours.number, site=site, reason="grace" if in_grace else "deadline")

    def _online(self) -> Mapping[str, Node]:
        """Who is connected; who was when it could be told last, where it can't."""
        try:
            self._here = online(self.grid, self.sites)
        except (
            Exception
        ) as error:  # nothing of a site's is read here, so it is the SuperLink's or the connection's fault
            self.tell("transport-error", reason=f"nodes-{type(error).__name__}")
        return self._here

    def _ask(self, ours: RoundSoFar, here: Mapping[str, Node], asked: dict[str, Asked], seconds: float) -> None:
        under_way = {question.site for question in asked.values()}
        for site in sorted(set(ours.slices) - ours.good - ours.out - under_way):
            node = here.get(site)
            if node is None or seconds <= 0 or time.monotonic() < ours.not_before.get(site, 0.0):
                continue
            if not ours.count_question(site):
                self.tell("absent", round=ours.number, site=site, reason="asked-too-often")
                continue
            if self._processes.get(site) != node.activated:
                self._processes[site] = node.activated
                self._held.pop(site, None)
            nonce = secrets.token_hex(16)
            request, body = self._request(site, ours, nonce, seconds)
            message = Message(
                pack(to_header(request), body), node.id, "train", ttl=seconds + 60, group_id=str(ours.number)
            )
            try:
                (identity,) = self.grid.push_messages([message]) or [None]
            except Exception as error:  # of Flower's transport or database: it may pass, and the deadline decides
                self.tell("transport-error", round=ours.number, site=site, reason=f"push-{type(error).__name__}")
                ours.later(site, time.monotonic(), code="E-TRANSPORT")
                continue
            if identity:
                asked[identity] = Asked(site, node, nonce, time.monotonic(), len(body))
            else:  # too large for Flower or a proxy, for one: that doesn't pass
                self.tell("transport-error", round=ours.number, site=site, reason="push-refused")
                ours.later(site, time.monotonic(), counted=True, code="E-PUSH")

    def _pulled(self, ours: RoundSoFar, asked: dict[str, Asked]) -> list[Message]:
        """The replies that are there, each fetched by itself: Flower deletes what it hands out, whether or not it can be unpacked.

        So a site is asked again whatever came between; one whose replies can't be unpacked, after some times no more.
        """
        found: list[Message] = []
        for identity, question in list(asked.items()):
            try:
                found += self.grid.pull_messages([identity])
            except Exception as error:  # of the transport, or whatever a malformed object makes Flower raise
                site = question.site
                self.tell("transport-error", round=ours.number, site=site, reason=f"pull-{type(error).__name__}")
                del asked[identity]
                ours.later(site, time.monotonic(), code="E-TRANSPORT")
                if not isinstance(error, _TRANSPORT):
                    ours.count_unreadable(site)
        return found

    def _request(self, site: str, ours: RoundSoFar, nonce: str, seconds: float) -> tuple[Request, bytes]:
        slice_ = ours.slices[site]
        digests = component_digests(slice_)
        held = self._held.get(site, {})
        lacking = [name for name, digest in digests.items() if digest not in held.get(name, ())]
        request = Request(
            run=self.run,
            round=ours.number,
            site=site,
            nonce=nonce,
            recipe=self.recipe,
            base=slice_.digest(),
            components=digests,
            contributors={name: ours.contributors[name] for name in digests},
            uploads=self.uploads,
            seconds=seconds,
        )
        return request, slice_.slice(lacking).to_bytes() if lacking else b""

    def _opened(self, ours: RoundSoFar, question: Asked, message: Message) -> Update | None:
        """A good reply's update; anything else becomes an event."""
        site, number, audit = question.site, ours.number, None
        if message.has_error():
            self.tell("transport-error", round=number, site=site, reason=f"flower-{message.error.code}")
            ours.later(site, time.monotonic(), counted=message.error.code not in _PASSING)
            return None
        try:
            header, body = unpack(message.content)
            reply = reply_from(header)
            expected = (self.run, number, site, question.nonce)
            if (reply.run, reply.round, reply.site, reply.nonce) != expected:
                raise FedkimError("a reply", found="the answer to another question")
            if reply.status == "need":
                self._held[site] = {name: list(digests) for name, digests in reply.held.items()}
                return None
            if reply.code == "E-WORKER":
                self.tell("worker-away", round=number, site=site)
                ours.later(site, time.monotonic(), code=reply.code)
                return None
            if reply.status != "ok":
                ours.leave_out(site, reply.code or reply.status)
                failed = reply.status == "failed"  # no other word of a site's becomes an event
                self.tell("failed" if failed else "refused", round=number, site=site, reason=ours.why[site])
                return None
            audit = reply.audit or None  # weights have left, whatever becomes of them here
            update = update_from(reply, body, ours.slices[site], self.sites[site], uploads=self.uploads)
        except (FedkimError, ValueError) as error:
            ours.leave_out(site, str(getattr(error, "code", "")) or "E-MESSAGE")
            self.tell("rejected", round=number, site=site, reason=ours.why[site], digest=audit)
            return None
        ours.good.add(site)
        self._held[site] = {name: list(digests)[:MOST_HELD] for name, digests in reply.held.items()}
        self.tell(
            "reply",
            round=number,
            site=site,
            sent=question.sent,
            received=len(body),
            seconds=round(time.monotonic() - question.began, 2),
            value=round(reply.seconds, 2),
            digest=audit,
        )
        return update
