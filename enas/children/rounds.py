"""Networks as rounds of calls, so that several architectures can run side by side on the same shared weights.

A network's forward pass is a generator, and so is that of its layers: each `yield` is a round, a list of calls that do not depend
on each other, and is answered by their results. Alone it runs call by call, as a plain function would. Several passes are run in
one of two ways, and both compute what equal calls on equal inputs give only once:

- `run_sharing`, one pass after the other: passes that agree so far run as one, until their calls differ. Beside what one pass
  needs, only what they have in common stays in memory. Results have the bits of a pass by itself.
- `run_joined`, round by round: calls of one block in a round become one call on a batch put together from theirs, in which
  BatchNorm keeps the statistics of each part apart. Few large kernels instead of many small ones, which is what a GPU waits for;
  all passes are in memory at once.

Every tensor operation of a pass belongs into a call, else what follows it is shared no more; sums are calls of `total`.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Generator, Hashable, Iterable, Sequence
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor, nn

from enas.children.base import Child, Output
from enas.children.batch_norm import BatchNorm, batch_norms, separate_batches
from enas.children.chain import unchanging_weights

ResultT = TypeVar("ResultT")


class Call(NamedTuple):
    """One piece of work.

    Attributes:
        block: a module or a function, the same object wherever the same work is meant.
        inputs: tensors (B, ...), its first arguments.
        options: hashable values, its other arguments.
    """

    block: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    options: tuple[Hashable, ...] = ()

    def __call__(self) -> Tensor:
        """Do it."""
        return self.block(*self.inputs, *self.options)

    @property
    def identity(self) -> Hashable:
        """Equal for calls of the same block on the same tensors, as long as these live."""
        return (self.block, self.options, *map(id, self.inputs))

    @property
    def joinable(self) -> Hashable:
        """Equal for calls that one call on a larger batch can answer."""
        return (self.block, self.options, *(tensor.shape for tensor in self.inputs))


Calls = Sequence[Call]
Rounds = Generator[Calls, list[Tensor], ResultT]
"""A pass: yields calls, is sent their results in the same order, returns what it computes."""


def total(*tensors: Tensor) -> Tensor:
    """Return the sum of at least one tensor, added from the first to the last; of a single one itself.

    All but the first two are added in place, which has the same bits and gradients: of four, .73 to .83 of the time.
    """
    first, *rest = tensors
    if not rest:
        return first
    start = first + rest[0]
    for tensor in rest[1:]:
        start += tensor
    return start


def pooled(x: Tensor) -> Tensor:
    """Return the mean of (B, C, H, W) over all pixels, (B, C)."""
    return x.mean(dim=(2, 3))


def joined_channels(*tensors: Tensor) -> Tensor:
    """Return tensors (B, C, H, W) one after the other, (B, n * C, H, W)."""
    return torch.cat(tensors, dim=1)


def idle(num_rounds: int) -> Rounds[None]:
    """Pass so many rounds without a call, beside passes that have some."""
    for _ in range(num_rounds):
        yield []


def run_alone(rounds: Rounds[ResultT], answers: list[Tensor] | None = None) -> ResultT:
    """Run one pass. Args: answers: to the calls that it has made, where it has begun."""
    while True:
        try:
            calls = rounds.send(answers)  # type: ignore[arg-type]  # a generator's first message is None
        except StopIteration as end:
            result: ResultT = end.value
            return result
        answers = [call() for call in calls]


def run_sharing(passes: Sequence[Rounds[ResultT]]) -> list[ResultT]:
    """Run several passes one after the other, what they have in common once; see above. Returns: in the order of the passes."""
    results: dict[int, ResultT] = {}
    _run_while_equal(dict(enumerate(passes)), None, results)
    return [results[index] for index in range(len(passes))]


def _run_while_equal(passes: dict[int, Rounds[ResultT]], answers: list[Tensor] | None, results: dict[int, ResultT]) -> None:
    """Run passes that had the same answers so far until their calls differ, then each party by itself."""
    while True:
        parties: dict[Hashable, tuple[Calls, dict[int, Rounds[ResultT]]]] = {}
        for index, calls in _next_calls(passes, dict.fromkeys(passes, answers), results).items():
            _, party = parties.setdefault(tuple(call.identity for call in calls), (calls, {}))
            party[index] = passes[index]
        if len(parties) != 1:
            break
        [(calls, passes)] = parties.values()
        answers = [call() for call in calls]
    for identity in list(parties):
        calls, party = parties.pop(identity)
        if len(party) == 1:  # nothing to compare its calls with
            [(index, rounds)] = party.items()
            results[index] = run_alone(rounds, [call() for call in calls])
        else:
            _run_while_equal(party, [call() for call in calls], results)


def run_joined(passes: Sequence[Rounds[ResultT]]) -> list[ResultT]:
    """Run several passes round by round, calls of one block as one; see above. Returns: in the order of the passes.

    Raises: ValueError for passes of different numbers of rounds.
    """
    results: dict[int, ResultT] = {}
    running = dict(enumerate(passes))
    answers: dict[int, list[Tensor] | None] = dict.fromkeys(running)
    while True:
        calls = _next_calls(running, answers, results)
        if len(results) == len(passes):
            return [results[index] for index in range(len(passes))]
        if results:
            raise ValueError(f"expected passes of as many rounds, got {len(results)} that ended before {len(calls)} others")
        found = _answer_joined(call for one in calls.values() for call in one)
        answers = {index: [found[call.identity] for call in one] for index, one in calls.items()}


def _next_calls(
    passes: dict[int, Rounds[ResultT]], answers: dict[int, list[Tensor] | None], results: dict[int, ResultT]
) -> dict[int, Calls]:
    """Send each pass its answers; return the calls of those that go on, and add the results of those that end."""
    calls: dict[int, Calls] = {}
    for index, rounds in passes.items():
        try:
            calls[index] = rounds.send(answers[index])  # type: ignore[arg-type]  # a generator's first message is None
        except StopIteration as end:
            results[index] = end.value
    return calls


def _answer_joined(calls: Iterable[Call]) -> dict[Hashable, Tensor]:
    """Return what each call gives, by its identity."""
    parties: dict[Hashable, list[Call]] = {}
    for call in {call.identity: call for call in calls}.values():
        # A sum is not joined: putting tensors together moves as much memory as adding them.
        key = call.joinable if isinstance(call.block, nn.Module) else call.identity
        parties.setdefault(key, []).append(call)
    return {call.identity: out for party in parties.values() for call, out in zip(party, _answer_as_one(party), strict=True)}


def _answer_as_one(calls: Sequence[Call]) -> Sequence[Tensor]:
    first = calls[0]
    if len(calls) == 1:
        return [first()]
    inputs = (torch.cat(tensors) for tensors in zip(*(call.inputs for call in calls), strict=True))
    with separate_batches(len(calls)):
        out = first.block(*inputs, *first.options)
    return out.chunk(len(calls))


class RoundsChild(Child):
    """A network whose forward pass is given as rounds.

    Passes of different architectures have the same number of rounds, some of them perhaps without a call.
    """

    @abstractmethod
    def rounds(self, x: Tensor, architecture: Any, *, generator: torch.Generator | None = None) -> Rounds[Output]:
        """Return the pass of one architecture; arguments as in `Child.forward`."""

    def forward(self, x: Tensor, architecture: Any, *, carry: Any = None, generator: torch.Generator | None = None) -> Output:
        """Run one architecture; see `Child.forward`. Images (B, C, H, W) give logits (B, num_classes)."""
        self.require_own(architecture)
        return run_alone(self.rounds(x, architecture, generator=generator))

    def evaluate_many(
        self, batches: Sequence[Tensor], architectures: Sequence[Any], *, carries: Sequence[Tensor | None] | None = None
    ) -> Sequence[Output]:
        """Run several architectures; see `Child.evaluate_many`: joined on an accelerator, sharing on the CPU."""
        if self.training or len(architectures) == 1:
            return list(super().evaluate_many(batches, architectures, carries=carries))
        passes = [self.rounds(x, one) for x, one in zip(batches, architectures, strict=True)]
        with unchanging_weights():
            return run_joined(passes) if joining_pays(self, batches[0]) else run_sharing(passes)


def joining_pays(network: nn.Module, x: Tensor) -> bool:
    """Whether `run_joined` is chosen: on accelerators, where all BatchNorm can keep parts of a batch apart.

    On a CPU a joined batch leaves the caches, and kernels are no dearer to start than to call.
    """
    return x.device.type != "cpu" and all(isinstance(norm, BatchNorm) for norm in batch_norms(network))
