"""The benchmarks of `scripts.bench`: what each measures, and the limit that its ratio is held against.

A new one is a function from a `Workbench` to pairs and a note, and an entry in `BENCHMARKS`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from controllers import CONTROLLERS
from controllers.configs import EnasConfig
from enas.children.ops import dropout_mask
from enas.children.rnn import NodeMatrices, RnnChild
from enas.children.rnn_loop import ACTIVATIONS
from enas.measure import NUM_WARMUP_PAIRS, Pairs, Side, seconds, time_pairs, timed_calls
from enas.memory_peak import memory_peak
from enas.paths import ControllerPaths
from enas.seeding import derive_generator
from enas.shared_weights import SharedWeights
from enas.spaces.rnn import RnnArchitecture
from enas.types import Controller, FloatArray, GradientController, PathBatch
from envs.vector import SharedWeightVectorEnv
from scripts.workbench import Workbench


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """A comparison and its limit.

    Attributes:
        what: first over second, in a line.
        unit: `ms` for pairs of seconds, `MiB` for pairs of bytes.
        limit: the largest median ratio that is asked for.
        measure: returns the pairs, and a note or nothing.
    """

    what: str
    unit: str
    limit: float
    measure: Callable[[Workbench], tuple[Pairs, str]]


def shared_step(bench: Workbench) -> tuple[Pairs, str]:
    """Time a training step on one path of the macro network, and of the same architecture hard-coded."""
    return _over_hard_coded(bench, bench.macro_weights())


def micro_shared_step(bench: Workbench) -> tuple[Pairs, str]:
    """Time a training step on one path of the micro network, and of the same architecture hard-coded."""
    return _over_hard_coded(bench, bench.micro_weights())


def rnn_shared_step(bench: Workbench) -> tuple[Pairs, str]:
    """Time a training step on one path of the recurrent network, and of the same cell hard-coded."""
    return _over_hard_coded(bench, bench.recurrent_weights())


def rnn_plain_loop(bench: Workbench) -> tuple[Pairs, str]:
    """Time a recurrent cell forwards and backwards, and a plain loop with the same products that PyTorch differentiates.

    Both start from embedded tokens and end at the states: embedding and softmax are left out.
    """
    child = bench.recurrent_weights().child
    assert isinstance(child, RnnChild)
    space, generator = bench.recurrent.make_space(), derive_generator(bench.seed, "sequences")
    paths = bench.paths(space)
    shape = (bench.text.train.bptt, bench.recurrent_batch_size, bench.recurrent.hidden)  # (T, B, H)
    inputs, gradient = (torch.randn(shape, generator=generator).to(bench.device) for _ in range(2))
    mask = dropout_mask(shape[1:], keep_prob=0.75, generator=generator, like=inputs)
    inputs.requires_grad_()

    def descend(states: Tensor) -> None:
        child.zero_grad(set_to_none=True)
        states.backward(gradient)  # type: ignore[no-untyped-call]

    def sides(_: int) -> tuple[Side, Side]:
        cell = space.decode(next(paths).tokens[0])
        return (
            lambda: descend(child.run(inputs, cell, None, mask)[0]),
            lambda: descend(plain_states(child, inputs, cell, mask)),
        )

    return time_pairs(sides, num_pairs=bench.num_pairs, device=bench.device, on_pair=bench.on_pair), ""


def plain_states(child: RnnChild, inputs: Tensor, cell: RnnArchitecture, mask: Tensor) -> Tensor:
    """Return the states of `RnnChild.run`, node after node as the cell is described. Args: inputs: (T, B, H). mask: (B, H)."""
    states, state = [], torch.zeros_like(inputs[0])
    for x in inputs:
        h, t = (torch.cat([x, state * mask], dim=1) @ child.first).chunk(2, dim=1)
        nodes = [state + torch.sigmoid(t) * (torch.tanh(h) - state)]
        for matrices, node in zip(child.nodes, cell.nodes, strict=True):
            assert isinstance(matrices, NodeMatrices)
            read = nodes[node.previous]
            h, t = ((read * mask) @ matrices.of(node)).chunk(2, dim=1)
            nodes.append(read + torch.sigmoid(t) * (ACTIVATIONS[node.function](h) - read))
        state = torch.stack(nodes[1:]).mean(dim=0)
        states.append(state)
    return torch.stack(states)


def micro_layout(bench: Workbench) -> tuple[Pairs, str]:
    """Time a training step of the micro network, and the same in PyTorch's default layout, with PyTorch's own BatchNorm."""
    chosen, default = bench.micro_weights(), bench.micro_weights(torch.contiguous_format)
    paths = bench.paths(chosen.space)

    def sides(_: int) -> tuple[Side, Side]:
        path = next(paths)
        return lambda: chosen.train_step(path), lambda: default.train_step(path)

    pairs = time_pairs(sides, num_pairs=bench.num_pairs, device=bench.device, on_pair=bench.on_pair)
    is_same = chosen.memory_format == default.memory_format
    return pairs, "this device keeps the default layout" if is_same else ""


def _over_hard_coded(bench: Workbench, shared: SharedWeights) -> tuple[Pairs, str]:
    pairs = bench.hard_coded_pairs(shared)

    def sides(_: int) -> tuple[Side, Side]:
        paths, alone = next(pairs)
        return lambda: shared.train_step(paths), lambda: alone.train_step(paths)

    return time_pairs(sides, num_pairs=bench.num_pairs, device=bench.device, on_pair=bench.on_pair), ""


def activation_peak(bench: Workbench) -> tuple[Pairs, str]:
    """Count the bytes at the peak of a step of the macro network, and of the same architecture hard-coded."""
    return _peak_over_hard_coded(bench, bench.macro_weights())


def rnn_activation_peak(bench: Workbench) -> tuple[Pairs, str]:
    """Count the bytes at the peak of a step of the recurrent network, and of the same cell hard-coded."""
    return _peak_over_hard_coded(bench, bench.recurrent_weights())


def _peak_over_hard_coded(bench: Workbench, shared: SharedWeights) -> tuple[Pairs, str]:
    """Measure both steps; one before them makes what stays, such as an epoch's order of images."""
    rows: list[tuple[int, int]] = []
    for paths, alone in bench.hard_coded_pairs(shared):
        rows.append((_step_peak(shared, paths), _step_peak(alone, paths)))
        bench.on_pair(len(rows))
        if len(rows) == bench.num_pairs:
            break
    pairs = Pairs(first=tuple(first for first, _ in rows), second=tuple(second for _, second in rows))
    return pairs, f"largest ratio {pairs.ratios.max():.4f}"


def _step_peak(weights: SharedWeights, paths: PathBatch) -> int:
    weights.train_step(paths)
    weights.optimizer.zero_grad(set_to_none=True)
    return memory_peak(lambda: weights.train_step(paths), weights.device)


def controller_batch(bench: Workbench) -> tuple[Pairs, str]:
    """Time the ENAS controller's proposals and updates: all architectures as one batch, and one by one."""
    space = bench.macro.make_space()
    batched, single = (EnasConfig().make(space, seed=bench.seed) for _ in range(2))
    rng = np.random.default_rng(bench.seed)

    def learn(controller: Controller, *batches: FloatArray) -> None:
        for rewards in batches:
            controller.update(controller.propose(len(rewards)), rewards)

    def sides(_: int) -> tuple[Side, Side]:
        rewards = rng.random(bench.num_architectures)
        one_by_one = np.split(rewards, len(rewards))
        return lambda: learn(batched, rewards), lambda: learn(single, *one_by_one)

    return time_pairs(sides, num_pairs=bench.num_pairs, device=bench.device, on_pair=bench.on_pair), ""


def loop_share(bench: Workbench) -> tuple[Pairs, str]:
    """Time a shared step of the search's loop, and within it all that is not the network's own work.

    The parts are timed where they run, inside the complete step, not by themselves: caches are as cold as a training step
    leaves them, numerator and denominator are of the same step, and no difference of two long times drowns them in noise.
    On an accelerator each part is waited for, which forbids the overlap that a search has. The garbage collector runs as in a
    search. The search's own bookkeeping (metrics, records) is not covered.
    """
    shared = bench.macro_weights()
    envs = SharedWeightVectorEnv(shared, num_envs=1, phase="shared")
    rule = ControllerPaths(shared.space, EnasConfig().make(shared.space, seed=bench.seed), seed=bench.seed)

    def step() -> None:  # as in enas.search
        paths = rule.draw()
        envs.reset(options={"loss_weights": paths.loss_weights})
        envs.step(paths.tokens)

    with (
        timed_calls(rule, "draw", bench.device) as sampling,
        timed_calls(envs, "reset", bench.device) as resets,
        timed_calls(envs, "step", bench.device) as steps,
        timed_calls(shared, "train_step", bench.device) as training,
        timed_calls(shared.train_stream, "batch", bench.device) as data,
    ):
        whole = []
        for index in range(-NUM_WARMUP_PAIRS, bench.num_pairs):
            whole.append(seconds(step, bench.device))
            bench.on_pair(max(0, index + 1))
    env = np.array(resets) + np.array(steps) - np.array(training)
    parts = np.array([sampling, env, data])[:, NUM_WARMUP_PAIRS:]  # (3, n)
    medians = zip(("sampling", "env", "data"), 1e3 * np.median(parts, axis=1), strict=True)
    pairs = Pairs(first=tuple(parts.sum(axis=0).tolist()), second=tuple(whole[NUM_WARMUP_PAIRS:]))
    return pairs, ", ".join(f"{name} {value:.2f} ms" for name, value in medians)


def strategy_update(bench: Workbench, name: str) -> tuple[Pairs, str]:
    """Time a strategy's own work for one update, and the measurement of rewards that the update learns from, in the macro space.

    One that learns from gradients draws a mixture and descends instead, beside the pass that gives the gradient, on the
    NAS-Bench-201 network.
    """
    rows: list[tuple[float, float]] = []
    for own, measuring in _gradient_updates(bench, name) if name in MIXED else _reward_updates(bench, name):
        rows.append((own, measuring))
        bench.on_pair(max(0, len(rows) - NUM_WARMUP_PAIRS))
        if len(rows) == NUM_WARMUP_PAIRS + bench.num_pairs:
            break
    kept = rows[NUM_WARMUP_PAIRS:]
    return Pairs(first=tuple(own for own, _ in kept), second=tuple(measuring for _, measuring in kept)), ""


def _reward_updates(bench: Workbench, name: str) -> Iterator[tuple[float, float]]:
    """Yield, for ever, the seconds of proposing and learning, and of measuring what was proposed."""
    controller = CONTROLLERS[name]().make(bench.macro.make_space(), seed=bench.seed)
    envs = SharedWeightVectorEnv(bench.macro_weights(), num_envs=bench.num_architectures, phase="controller")
    while True:
        with timed_calls(controller, "propose", bench.device) as own, timed_calls(envs, "step", bench.device) as measuring:
            rollout = controller.propose(bench.num_architectures)
            rewards = envs.step(rollout.tokens)[1]
        with timed_calls(controller, "update", bench.device) as learning:
            controller.update(rollout, rewards)
        yield own[0] + learning[0], measuring[0]


def _gradient_updates(bench: Workbench, name: str) -> Iterator[tuple[float, float]]:
    """Yield, for ever, the seconds of drawing a mixture and descending, and of the gradient's pass."""
    shared = bench.mixed_weights()
    controller = CONTROLLERS[name]().make(shared.space, seed=bench.seed)
    assert isinstance(controller, GradientController)
    while True:
        with timed_calls(controller, "relax", bench.device) as own:
            relaxation = controller.relax(0.5)
        with timed_calls(shared, "architecture_gradient", bench.device) as measuring:
            gradient = shared.architecture_gradient(relaxation).gradient.cpu().double().numpy()
        with timed_calls(controller, "descend", bench.device) as learning:
            controller.descend(gradient)
        yield own[0] + learning[0], measuring[0]


def _update_of(name: str) -> Benchmark:
    what = (
        "a mixture drawn and a descent / the gradient's pass"
        if name in MIXED
        else "propose and update / the rewards' measurement"
    )
    return Benchmark(what=f"{name}: {what}", unit="ms", limit=0.02, measure=lambda bench: strategy_update(bench, name))


MIXED = ("darts", "gaea", "gdas")
"""Strategies that learn from gradients by default."""

BENCHMARKS: dict[str, Benchmark] = {
    "activation-peak": Benchmark(
        what="activation peak of a shared step / of the standalone network's", unit="MiB", limit=1.05, measure=activation_peak
    ),
    "controller-batch": Benchmark(
        what="architectures sampled and updated as a batch / one by one", unit="ms", limit=0.1, measure=controller_batch
    ),
    "loop-share": Benchmark(what="env, sampling and data / the whole shared step", unit="ms", limit=0.03, measure=loop_share),
    "micro-layout": Benchmark(
        what="micro: shared step / the same in default layout with PyTorch's BatchNorm",
        unit="ms",
        limit=0.5,
        measure=micro_layout,
    ),
    "micro-shared-step": Benchmark(
        what="micro: shared step / the standalone network's", unit="ms", limit=1.05, measure=micro_shared_step
    ),
    "rnn-activation-peak": Benchmark(
        what="rnn: activation peak of a shared step / of the standalone cell's",
        unit="MiB",
        limit=1.05,
        measure=rnn_activation_peak,
    ),
    "rnn-plain-loop": Benchmark(
        what="rnn: the cell forwards and backwards / a plain loop", unit="ms", limit=1.0, measure=rnn_plain_loop
    ),
    "rnn-shared-step": Benchmark(what="rnn: shared step / the standalone cell's", unit="ms", limit=1.05, measure=rnn_shared_step),
    "shared-step": Benchmark(what="shared step / the standalone network's", unit="ms", limit=1.05, measure=shared_step),
    **{f"update-{name}": _update_of(name) for name in CONTROLLERS},
}
"""Every benchmark by its name."""
