"""A user's own search space and its network, below, and what the project then does with them without further code."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import nn

from controllers import CONTROLLERS
from controllers.lstm import LSTMPolicy
from enas.children.base import Child, Output, copy_inherited
from enas.children.cost import measure_cost
from enas.configs import SharedConfig
from enas.datasets.images import ImageData, ImageSplit
from enas.shared_weights import SharedWeights
from enas.spaces.base import ChildConfig, Decision, SearchSpace, Step
from enas.spaces.sampling import sample_uniform
from envs.vector import SharedWeightVectorEnv

OPERATIONS = ("identity", "conv1x1", "conv3x3")


@dataclass(frozen=True)
class Chain:
    operations: tuple[str, ...]

    def to_json(self):
        return {"operations": list(self.operations)}


class ChainSpace(SearchSpace[Chain]):
    name = "chain"

    def __init__(self, num_layers):
        self.decisions = tuple(
            Decision(name=f"layer_{k}", kind="op", choices=OPERATIONS, vocabulary="op", step=k) for k in range(num_layers)
        )
        self.steps = tuple(Step(input="choice" if k else "start", anchor="value") for k in range(num_layers))

    def decode(self, tokens):
        return Chain(tuple(OPERATIONS[token] for token in self.validate(tokens)))

    def encode(self, architecture):
        return tuple(OPERATIONS.index(operation) for operation in architecture.operations)

    def from_json(self, data):
        return Chain(tuple(data["operations"]))

    def smallest(self):
        return Chain(("identity",) * len(self.decisions))

    def largest(self):
        return Chain(("conv3x3",) * len(self.decisions))


class ChainChild(Child):
    def __init__(self, config, input_shape, num_classes, architecture):
        super().__init__()
        width = config.width
        make = {
            "identity": nn.Identity,
            "conv1x1": lambda: nn.Conv2d(width, width, 1),
            "conv3x3": lambda: nn.Conv2d(width, width, 3, 1, 1),
        }
        own = [OPERATIONS] * config.num_layers if architecture is None else [(name,) for name in architecture.operations]
        self.stem = nn.Conv2d(input_shape[0], width, 3, padding=1)
        self.layers = nn.ModuleList(nn.ModuleDict({name: make[name]() for name in names}) for names in own)
        self.classifier = nn.Linear(width, num_classes)

    def forward(self, x, architecture, *, carry=None, generator=None):
        x = self.stem(x)
        for layer, operation in zip(self.layers, architecture.operations, strict=True):
            x = layer[operation](x).relu()
        return Output(logits=self.classifier(x.mean((2, 3))))


@dataclass(frozen=True)
class ChainConfig(ChildConfig):
    num_layers: int = 3
    width: int = 8

    def make_space(self):
        return ChainSpace(self.num_layers)

    def make_child(self, *, input_shape, num_classes, architecture=None):
        return ChainChild(self, input_shape, num_classes, architecture)


# What follows is the test.

CONFIG = ChainConfig()
SPACE = CONFIG.make_space()


@pytest.fixture
def shared():
    """Shared weights over two classes of 8x8 images: dark ones and bright ones."""
    labels = torch.arange(64) % 2
    pixels = torch.randint(0, 128, (64, 1, 8, 8), generator=torch.Generator().manual_seed(0)) + 127 * labels[:, None, None, None]
    split = ImageSplit(images=pixels.to(torch.uint8), labels=labels)
    data = ImageData(name="bright", train=split, valid=split, test=split, num_classes=2, mean=(0.5,), std=(0.3,))
    return SharedWeights(CONFIG, data, SharedConfig(batch_size=16, valid_batch_size=32, learning_rate=0.05), seed=0)


def test_samples_lead_back_to_their_tokens():
    for row in sample_uniform(SPACE, 20, np.random.default_rng(0)):
        architecture = SPACE.decode(row)
        assert SPACE.encode(architecture) == tuple(row)
        assert SPACE.from_text(SPACE.to_text(architecture)) == SPACE.from_json(architecture.to_json()) == architecture


def test_policy_is_a_distribution_over_the_space():
    tokens = torch.cartesian_prod(*[torch.arange(3)] * 3)
    assert LSTMPolicy(SPACE).evaluate(tokens).log_prob.exp().sum().item() == pytest.approx(1, abs=1e-5)


def test_default_drawing_is_the_chain():
    graph = SPACE.graph(Chain(("conv3x3", "identity", "conv1x1")))
    assert [node.label for node in graph.nodes] == ["conv3x3", "identity", "conv1x1"]
    assert graph.edges == ((0, 1), (1, 2))


def test_supernet_equals_the_standalone_network():
    architecture = Chain(("conv3x3", "identity", "conv1x1"))
    supernet = CONFIG.make_child(input_shape=(1, 8, 8), num_classes=2)
    standalone = CONFIG.make_child(input_shape=(1, 8, 8), num_classes=2, architecture=architecture)
    copy_inherited(supernet, standalone)
    x = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(supernet(x, architecture).logits, standalone(x, architecture).logits)


def test_cost_grows_from_smallest_to_largest():
    smallest, largest = (
        measure_cost(CONFIG, a, input_shape=(1, 8, 8), num_classes=2) for a in (SPACE.smallest(), SPACE.largest())
    )
    assert largest.flops - smallest.flops == 64 * 3 * 9 * 8 * 8
    assert largest.parameters - smallest.parameters == 3 * (9 * 8 * 8 + 8)


ON_MIXTURES = ("darts", "gaea", "gdas")


@pytest.mark.parametrize("name", ON_MIXTURES)
def test_strategy_on_mixtures_is_refused_with_the_reason(name):
    with pytest.raises(
        ValueError, match="chain: expected a space with mixtures, but its network runs one architecture at a time"
    ):
        CONTROLLERS[name]().make(SPACE, seed=0)


@pytest.mark.parametrize("name", [name for name in CONTROLLERS if name not in ON_MIXTURES])
def test_every_controller_searches_it_through_the_environment(name, shared):
    train_envs, envs = SharedWeightVectorEnv(shared, num_envs=1), SharedWeightVectorEnv(shared, num_envs=4, phase="controller")
    controller = CONTROLLERS[name]().make(SPACE, seed=0)
    train_envs.reset(options={"phase": "shared"})
    for _ in range(150):
        train_envs.step(controller.propose(1).tokens)
    rewards = []
    for _ in range(3):
        rollout = controller.propose(4)
        rewards.append(envs.step(rollout.tokens)[1])
        assert np.isfinite(list(controller.update(rollout, rewards[-1]).values())).all()
    assert shared.num_train_steps == 150
    assert np.mean(rewards) > 0.8
    evaluation = shared.evaluate_all([SPACE.decode(row) for row in controller.candidates(3)])
    assert evaluation.accuracy.max() > 0.9
