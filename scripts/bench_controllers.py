"""What proposing architectures, measuring their rewards and learning from them costs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from controllers import CONTROLLERS
from controllers.configs import EnasConfig
from enas.measure import NUM_WARMUP_PAIRS, Pairs, Side, timed_calls
from enas.seeding import derive_seed
from enas.types import Controller, FloatArray, GradientController, IntArray
from envs.vector import SharedWeightVectorEnv
from scripts.bench_settings import SpaceName
from scripts.workbench import Measured, Workbench

MIXED = ("darts", "gaea", "gdas")
"""Strategies that learn from gradients by default."""


def controller_step(bench: Workbench, space: SpaceName) -> Measured:
    """Time a controller step as a search takes it, and the same architecture by architecture, in PyTorch's default layout.

    Both propose, measure and learn, but what they measure is the same: proposals of a policy like theirs, drawn before the clock
    starts, since architectures differ in what they cost. Sides take seconds, so nothing runs untimed before them.
    """
    shared, naive = bench.weights(space), bench.weights(space, memory_format=torch.contiguous_format)
    batched, single = bench.controller(space), bench.controller(space)
    drawn = EnasConfig().make(shared.space, seed=derive_seed(bench.seed, "controller step"))
    many = SharedWeightVectorEnv(shared, num_envs=bench.num_architectures, phase="controller")
    one = SharedWeightVectorEnv(naive, num_envs=1, phase="controller")

    def learn(controller: Controller, envs: SharedWeightVectorEnv, *batches: IntArray) -> None:
        for tokens in batches:
            rollout = controller.propose(len(tokens))
            controller.update(rollout, envs.step(tokens)[1])

    def sides() -> tuple[Side, Side]:
        tokens = drawn.propose(bench.num_architectures).tokens
        rows = np.split(tokens, len(tokens))
        return lambda: learn(batched, many, tokens), lambda: learn(single, one, *rows)

    return bench.time_pairs(sides, rehearses=False), f"{bench.num_architectures} architectures"


def controller_batch(bench: Workbench) -> Measured:
    """Time the ENAS controller's proposals and updates in the macro space: all architectures as one batch, and one by one."""
    batched, single = bench.controller("macro"), bench.controller("macro")
    rng = np.random.default_rng(bench.seed)

    def learn(controller: Controller, *batches: FloatArray) -> None:
        for rewards in batches:
            controller.update(controller.propose(len(rewards)), rewards)

    def sides() -> tuple[Side, Side]:
        rewards = rng.random(bench.num_architectures)
        one_by_one = np.split(rewards, len(rewards))
        return lambda: learn(batched, rewards), lambda: learn(single, *one_by_one)

    return bench.time_pairs(sides), ""


def strategy_update(bench: Workbench, name: str) -> Measured:
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
    shared = bench.weights("macro")
    controller = CONTROLLERS[name]().make(shared.space, seed=bench.seed)
    envs = SharedWeightVectorEnv(shared, num_envs=bench.num_architectures, phase="controller")
    while True:
        with timed_calls(controller, "propose", bench.device) as own, timed_calls(envs, "step", bench.device) as measuring:
            rollout = controller.propose(bench.num_architectures)
            rewards = envs.step(rollout.tokens)[1]
        with timed_calls(controller, "update", bench.device) as learning:
            controller.update(rollout, rewards)
        yield own[0] + learning[0], measuring[0]


def _gradient_updates(bench: Workbench, name: str) -> Iterator[tuple[float, float]]:
    """Yield, for ever, the seconds of drawing a mixture and descending, and of the gradient's pass."""
    shared = bench.weights("nb201")
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
