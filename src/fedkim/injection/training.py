"""Knowledge injection: the server's training on the public set, one call per round.

Gradients of a step's micro-batches are computed side by side in worker threads and added in the micro-batches' order, so
the number of workers changes the speed and no bit.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fedkim.data.sample import Dataset, Sample
from fedkim.errors import FedkimError
from fedkim.failpoints import reach
from fedkim.injection.batches import MicroBatch, plan_round, stack_inputs, steps_in_pass, with_every_input
from fedkim.injection.guidance import Guide, condition
from fedkim.injection.injector import Injector
from fedkim.injection.lessons import Lessons, Teacher, first_tokens
from fedkim.injection.objective import answer_labels, answer_loss, soft_answer_loss
from fedkim.injection.optimizer import ServerOptimizer
from fedkim.injection.pools import Pools, encode_pool
from fedkim.m3oe import balance_penalty
from fedkim.parallel import ordered_map
from fedkim.randomness import generator_for
from fedkim.recipe import M3OE, Injection
from fedkim.state import State


@dataclass
class InjectionReport:
    """What one round of injection has done so far."""

    losses: list[float] = field(default_factory=list)
    """Mean answer loss by step."""
    answers: dict[str, list[float]] = field(default_factory=dict)
    """Loss of every answer, by task."""

    @property
    def steps(self) -> int:
        """Steps done."""
        return len(self.losses)

    @property
    def tasks(self) -> dict[str, float]:
        """Mean answer loss by task."""
        return {name: sum(values) / len(values) for name, values in self.answers.items() if values}


class InjectionTrainer:
    """One optimiser and one schedule for the whole run; encoder moments start anew after each aggregation.

    Args:
        injector: the model; its parameters are trained in place.
        public: the server's data.
        seen: names of the tasks trained on.
        settings, m3oe: the recipe's tables.
        rounds: of the run, for the schedule.
        micro_batch: samples in one forward pass.
        workers: micro-batches computed side by side.
        seed: the run's.

    Raises:
        FedkimError: a seen task without a usable public sample, or with one answer only; answers of several tokens where
            they are learned as distributions.
    """

    def __init__(
        self,
        injector: Injector,
        public: Dataset,
        *,
        seen: Sequence[str],
        settings: Injection,
        m3oe: M3OE,
        rounds: int,
        micro_batch: int,
        workers: int,
        seed: int,
    ):
        self.injector, self.settings, self.seed, self.workers = injector, settings, seed, workers
        self.micro_batch, self.balance_weight = micro_batch, m3oe.entropy_weight
        self.pools = {name: with_every_input(public, injector.tasks[name]) for name in seen}
        for name, pool in self.pools.items():
            if len({sample.labels[name] for sample in pool}) < 2:
                raise FedkimError(
                    f"task {name!r}",
                    found=f"{len(pool)} usable public samples with fewer than two different answers",
                    expected="both answers in the public split",
                    remedy="add public data or take the task from tasks.seen",
                )
        taught = settings.teacher != "none"
        if not injector.blind and (taught or settings.mixup == "always"):
            for name in seen:
                first_tokens(injector, name, taught=taught)  # rather now than after the sites have trained
        self.unlabelled = {name: with_every_input(public, injector.tasks[name], labelled=False) for name in seen}
        asked = self.unlabelled if taught and settings.unlabelled else self.pools
        self.steps_per_round = settings.steps_per_round or steps_in_pass(asked, settings.batch_size)
        self.total_steps = (rounds - settings.first_round + 1) * self.steps_per_round
        self.optimizer = ServerOptimizer(injector, settings, total_steps=self.total_steps)

    def fit(
        self,
        state: State,
        *,
        round: int,
        teacher: Teacher | None = None,
        guide: Guide | None = None,
        begun: InjectionReport | None = None,
        on_step: Callable[[InjectionReport], None] | None = None,
    ) -> tuple[State, InjectionReport]:
        """Inject one round's aggregated knowledge and give the state with the tuned encoders (step 4 and 5 of a round).

        Args:
            state: the aggregated global state; its encoders are loaded first.
            round: counts from 1; at least ``first_round``.
            teacher: the aggregated decoders, if answers follow them instead of the public labels.
            guide: where the aggregated decoders look, if the alignment is to make that louder.
            begun: what a process that was cut off had reported after its last kept step; injector and optimiser must
                hold what their ``tensors`` gave then. The end is the same, bit for bit.
            on_step: called with the report after each step.
        """
        injector = self.injector
        encoders = state.slice(f"encoder.{modality}" for modality in injector.encoders)
        if begun is None:
            injector.load(encoders)
            self.optimizer.forget("encoder")
        pools = self.unlabelled if teacher is not None and self.settings.unlabelled else self.pools
        plan = plan_round(
            pools,
            injector.tasks,
            round=round,
            steps=self.steps_per_round,
            batch_size=self.settings.batch_size,
            micro_batch=self.micro_batch,
            balanced=self.settings.balanced and teacher is None,
            seed=self.seed,
        )
        report = begun or InjectionReport(answers={name: [] for name in pools})
        if guide is not None and begun is None:  # the constants that were fitted are among the injector's tensors
            condition(injector, self.unlabelled, guide, self.settings.guidance)
        if injector.evidence is not None and begun is None:
            heard = {name: encode_pool(injector, name, pool) for name, pool in self.unlabelled.items()}
            injector.evidence.hear(state.below("decoder"), heard)
        lessons = self._lessons(pools, teacher)
        injector.network.train()
        injector.encoders.train()
        for number in range(report.steps, len(plan)):
            step = (round - self.settings.first_round) * self.steps_per_round + number
            report.losses.append(self._step(plan[number], round, step, lessons, report.answers))
            reach("injection.step")
            if on_step:
                on_step(report)
        trained = injector.tensors()
        # copies: the next round trains these parameters in place, and a State never changes
        return state.updated({key: trained[key].clone() for key in encoders}), report

    def _lessons(self, pools: Pools, teacher: Teacher | None) -> Lessons | None:
        """Answers as distributions, where decoders teach or labels are mixed; None: the public labels word for word."""
        mixup = self.settings.mixup
        if teacher is None and (mixup != "always" or self.injector.blind):
            return None
        return Lessons(self.injector, pools, teacher, mixup=mixup)

    # one step -------------------------------------------------------------------------------------------------

    def _step(
        self,
        micro_batches: Sequence[MicroBatch],
        round: int,
        number: int,
        lessons: Lessons | None,
        by_task: dict[str, list[float]],
    ) -> float:
        total = sum(len(batch.samples) for batch in micro_batches)

        def gradients(batch: MicroBatch) -> tuple[Mapping[str, list[float]], Sequence[Tensor | None]]:
            generator = generator_for(self.seed, "server", round, "micro-batch", batch.number)
            loss, losses = self._loss(batch, generator, lessons)
            share = loss * (len(batch.samples) / total)
            return losses, torch.autograd.grad(share, self.optimizer.parameters, allow_unused=True)

        summed: list[Tensor | None] = [None] * len(self.optimizer.parameters)
        loss = 0.0
        for losses, grads in ordered_map(gradients, micro_batches, self.workers):
            for task, values in losses.items():
                by_task[task] += values
                loss += sum(values) / total
            for index, gradient in enumerate(grads):
                if gradient is not None:
                    held = summed[index]
                    summed[index] = gradient if held is None else held + gradient
        if not math.isfinite(loss):
            raise FedkimError(
                f"injection in round {round}",
                found="a loss that is not finite",
                remedy='lower injection.learning_rate or use run.dtype = "float32"',
            )
        for parameter, total_gradient in zip(self.optimizer.parameters, summed):
            parameter.grad = total_gradient
        self._add_balance()
        self.optimizer.step(number)
        return loss

    def _loss(
        self, batch: MicroBatch, generator: torch.Generator, lessons: Lessons | None
    ) -> tuple[Tensor, dict[str, list[float]]]:
        """Mean over the rows, and each task's losses by row."""
        injector = self.injector
        rows = _distinct(batch) if injector.blind else [(*row, 1) for row in zip(batch.tasks, batch.samples)]
        tasks, samples, counts = zip(*rows)
        modalities = injector.tasks[tasks[0]].modalities  # the same for all rows of a micro-batch
        features = injector.encode(tasks[0], {} if injector.blind else stack_inputs(samples, modalities))
        targets = None
        if lessons is not None:
            features, targets = lessons.give(tasks, features, generator, samples)
            answers = [(injector.tasks[task].answers or ())[int(row.argmax())] for task, row in zip(tasks, targets)]
        else:
            answers = [sample.labels[task] for task, sample in zip(tasks, samples)]
        answer_ids = [[*injector.tokens.answer(answer), injector.llm.end_token] for answer in answers]
        questions = [sample.questions.get(task, injector.tasks[task].question) for task, sample in zip(tasks, samples)]
        tails = [injector.tokens.prompt(question) + ids for question, ids in zip(questions, answer_ids)]
        labels = answer_labels(answer_ids, injector.llm.device)
        with injector.using(tasks, generator):
            logits = injector.logits(injector.align(features), tails, keep=labels.shape[1], drop=1)
        if lessons is None or targets is None:
            losses = answer_loss(logits, labels)
        else:
            losses = soft_answer_loss(logits, labels, [lessons.first_tokens[task] for task in tasks], targets)
        by_task: dict[str, list[float]] = {}
        for task, value, count in zip(tasks, losses.tolist(), counts):
            by_task.setdefault(task, []).extend([value] * count)
        weights = torch.tensor(counts, dtype=losses.dtype, device=losses.device)
        return (losses * weights).sum() / weights.sum(), by_task

    def _add_balance(self) -> None:
        """Keep the mean route over the seen tasks near uniform: experts may specialise by task, none may take over all.

        Adds the gradient of ``weight · KL(mean_t α_t ‖ uniform)`` to the router's.
        """
        router = list(self.optimizer.groups.get("router", {}).values())
        if not router or not self.balance_weight:
            return
        divergence = balance_penalty(torch.stack([self.injector.route_weights(name) for name in sorted(self.pools)]))
        for parameter, gradient in zip(
            router, torch.autograd.grad(self.balance_weight * divergence, router, allow_unused=True)
        ):
            if gradient is not None:
                parameter.grad = gradient if parameter.grad is None else parameter.grad + gradient


def _distinct(batch: MicroBatch) -> list[tuple[str, Sample, int]]:
    """Without modality segments, rows with the same question and answer are the same: keep one, with its count."""
    rows: dict[tuple[str, str, str], tuple[str, Sample, int]] = {}
    for task, sample in zip(batch.tasks, batch.samples):
        key = (task, sample.questions.get(task, ""), sample.labels.get(task, ""))
        count = rows[key][2] if key in rows else 0
        rows[key] = (task, sample, count + 1)
    return list(rows.values())
