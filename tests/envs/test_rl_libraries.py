"""Agents of reinforcement-learning libraries learn on the environments, as they come.

They search a chain of layers whose operation `zero` destroys the signal: a single one makes the network guess. The shared weights
are trained on uniform paths and then frozen, so that the accuracy of each of the 144 architectures is a fixed number: what an
agent has learned is its policy's mean of those numbers, beside that of uniform sampling. The rewards it learns from are noisier,
each on the next 64 validation images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from sb3_contrib import MaskablePPO
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.utils import set_random_seed
from torch import nn

from enas.children.base import Child, Output
from enas.configs import SharedConfig
from enas.datasets import load_data
from enas.shared_weights import SharedWeights
from enas.spaces.base import ChildConfig, Decision, SearchSpace, Step
from enas.spaces.sampling import sample_uniform
from enas.types import PathBatch
from envs.shared_weight import SharedWeightEnv
from envs.tokens import TokenEnv, TokenVectorEnv
from envs.vector import SharedWeightVectorEnv

pytestmark = pytest.mark.slow

OPERATIONS = ("zero", "conv1x1", "conv3x3", "conv5x5")
NUM_CHOICES = (4, 4, 3, 3)  # the last two layers offer no conv5x5, so that a mask is needed
ALL_TOKENS = list(product(*map(range, NUM_CHOICES)))


@dataclass(frozen=True)
class Chain:
    tokens: tuple[int, ...]

    def to_json(self):
        return {"tokens": list(self.tokens)}


class ChainSpace(SearchSpace[Chain]):
    name = "chain"
    decisions = tuple(
        Decision(name=f"layer_{k}", kind="op", choices=OPERATIONS[:count], vocabulary=f"op_{count}", step=k)
        for k, count in enumerate(NUM_CHOICES)
    )
    steps = tuple(Step(input="choice" if k else "start", anchor="value") for k in range(len(NUM_CHOICES)))

    def decode(self, tokens):
        return Chain(self.validate(tokens))

    def encode(self, architecture):
        return architecture.tokens

    def from_json(self, data):
        return self.decode(data["tokens"])

    def smallest(self):
        return self.decode([1, 1, 1, 1])

    def largest(self):
        return self.decode([3, 3, 2, 2])


class ChainChild(Child):
    def __init__(self, input_shape, num_classes):
        super().__init__()
        self.stem = nn.Conv2d(input_shape[0], 8, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.ModuleList([nn.Identity(), *(nn.Conv2d(8, 8, size, padding=size // 2) for size in (1, 3, 5))]) for _ in NUM_CHOICES
        )
        self.classifier = nn.Linear(8 * input_shape[1] * input_shape[2], num_classes)

    def forward(self, x, architecture, *, carry=None, generator=None):
        x = self.stem(x)
        for layer, token in zip(self.layers, architecture.tokens, strict=True):
            x = (layer[token](x) if token else 0 * x).relu()
        return Output(logits=self.classifier(x.flatten(1)))


@dataclass(frozen=True)
class ChainConfig(ChildConfig):
    def make_space(self):
        return ChainSpace()

    def make_child(self, *, input_shape, num_classes, architecture=None):
        return ChainChild(input_shape, num_classes)


@pytest.fixture(scope="module")
def trained() -> SharedWeights:
    """Return shared weights trained on uniform paths over the real digits."""
    data = load_data("digits", data_dir=Path())
    shared = SharedWeights(ChainConfig(), data, SharedConfig(batch_size=64, valid_batch_size=64), seed=0)
    rng = np.random.default_rng(0)
    for _ in range(300):
        shared.train_step(PathBatch(tokens=sample_uniform(shared.space, 4, rng), loss_weights=np.full(4, 0.25)))
    return shared


@pytest.fixture(scope="module")
def accuracies(trained) -> np.ndarray:
    """Return the accuracy of every architecture on the whole validation set, indexed by its tokens."""
    return trained.evaluate_all([trained.space.decode(tokens) for tokens in ALL_TOKENS]).accuracy.reshape(NUM_CHOICES)


@pytest.fixture
def beats_uniform(accuracies):
    """Return whether a policy's architectures are far better on average than uniform ones, and nearly as good as the best."""

    def check(rows: Sequence[Sequence[int]]) -> bool:
        learned = accuracies[tuple(np.array(rows).T)].mean()
        return bool(learned > accuracies.mean() + 0.4 and learned > accuracies.max() - 0.15)

    return check


def test_one_useless_operation_makes_the_network_guess(accuracies):
    is_useful = np.array([0 not in tokens for tokens in ALL_TOKENS]).reshape(NUM_CHOICES)
    assert accuracies[~is_useful].max() < 0.2
    assert accuracies[is_useful].min() > 0.6
    assert 0.2 < accuracies.mean() < 0.35


@pytest.fixture(autouse=True)
def _seeded():
    """Seed the libraries' global generators. Their own `seed` argument would also seed the environment: a new search."""
    set_random_seed(0)


@pytest.mark.parametrize(
    ("algorithm", "settings", "num_steps"),
    [
        (PPO, {"n_steps": 64, "batch_size": 64, "n_epochs": 10, "learning_rate": 3e-3}, 2048),
        (A2C, {"n_steps": 16, "learning_rate": 3e-3}, 2560),
    ],
)
def test_stable_baselines_learns_whole_architectures(algorithm, settings, num_steps, trained, beats_uniform):
    env = SharedWeightEnv(trained, phase="controller")
    agent = algorithm("MlpPolicy", env, device="cpu", **settings)
    agent.learn(num_steps)
    assert beats_uniform(agent.predict(np.zeros((200, 1), dtype=np.float32))[0])


def test_maskable_ppo_learns_tokens(trained, beats_uniform):
    env = TokenEnv(SharedWeightEnv(trained, phase="controller"))
    agent = MaskablePPO(
        "MultiInputPolicy", env, gamma=1.0, n_steps=256, batch_size=64, n_epochs=10, learning_rate=1e-3, device="cpu"
    )
    agent.learn(4096)
    rows = []
    for _ in range(100):
        observation, ended = env.reset()[0], False
        while not ended:
            action, _ = agent.predict(observation, action_masks=env.action_masks())
            observation, _, ended, _, _ = env.step(action)
        rows.append(observation["tokens"] - 1)
    assert beats_uniform(rows)


def test_loop_in_plain_torch_learns_tokens(trained, beats_uniform):
    envs = TokenVectorEnv(SharedWeightVectorEnv(trained, num_envs=16, phase="controller"))
    num_actions, num_tokens = envs.single_action_space.n, len(envs.single_observation_space["tokens"].nvec)
    policy = nn.Sequential(nn.Linear(num_tokens * (num_actions + 1), 64), nn.Tanh(), nn.Linear(64, num_actions))
    optimizer = torch.optim.Adam(policy.parameters(), lr=1e-2)

    def distribution(observation):
        one_hot = nn.functional.one_hot(torch.as_tensor(observation["tokens"]), num_actions + 1)  # (N, D, A + 1)
        mask = torch.as_tensor(observation["action_mask"]).bool()
        return torch.distributions.Categorical(logits=policy(one_hot.flatten(1).float()).masked_fill(~mask, -torch.inf))

    def play():
        observation, steps, ended = envs.reset()[0], [], False
        while not ended:
            with torch.no_grad():
                choice = distribution(observation)
                action = choice.sample()
            steps.append((observation, action, choice.log_prob(action)))
            observation, rewards, ends, _, _ = envs.step(action.numpy())
            ended = ends.all()
        return steps, torch.as_tensor(rewards).float()

    for _ in range(60):
        steps, rewards = play()
        advantage = (rewards - rewards.mean()) / (rewards.std() + 1e-8)  # gamma = 1: the same for each token of a row
        for _ in range(4):
            loss = torch.zeros(())
            for observation, action, old_log_prob in steps:
                choice = distribution(observation)
                ratio = (choice.log_prob(action) - old_log_prob).exp()
                clipped = ratio.clamp(0.8, 1.2)
                loss = loss - torch.minimum(ratio * advantage, clipped * advantage).mean() - 0.01 * choice.entropy().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    assert beats_uniform([np.stack([action[slot] for _, action, _ in play()[0]]) for slot in range(16)])
