"""What holds of every registered search space."""

import json

import numpy as np
import pytest

from enas.spaces import SPACES
from enas.spaces.base import ChildConfig
from enas.spaces.sampling import sample_uniform

CONFIGS = {name: kind() for name, kind in SPACES.items()}


@pytest.fixture(params=CONFIGS)
def config(request: pytest.FixtureRequest) -> ChildConfig:
    return CONFIGS[request.param]


def test_space_is_named_as_in_the_dict():
    assert {name: config.make_space().name for name, config in CONFIGS.items()} == {name: name for name in SPACES}


def test_tokens_text_and_json_lead_back_to_the_architecture(config):
    space = config.make_space()
    for row in sample_uniform(space, 20, np.random.default_rng(0)):
        architecture = space.decode(row)
        assert space.encode(architecture) == tuple(row.tolist())
        assert space.from_text(space.to_text(architecture)) == architecture
        assert space.from_json(json.loads(json.dumps(architecture.to_json()))) == architecture
        assert config.for_text(space.to_text(architecture)).make_space().decisions == space.decisions


def test_architectures_are_equal_where_their_tokens_are_and_can_be_keys(config):
    space = config.make_space()
    first, second = sample_uniform(space, 2, np.random.default_rng(1))
    assert {space.decode(first): 1, space.decode(first.tolist()): 2, space.decode(second): 3} == {
        space.decode(first): 2,
        space.decode(second): 3,
    }


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (lambda sizes: sizes - 1, None),
        (lambda sizes: sizes[:-1] * 0, "expected .* tokens, got"),
        (lambda sizes: sizes, "expected a token in 0\\.\\."),
        (lambda sizes: sizes * 0 - 1, "expected a token in 0\\.\\."),
    ],
)
def test_tokens_outside_the_space_are_refused(config, tokens, message):
    space = config.make_space()
    if message is None:
        space.decode(tokens(space.num_choices))
        return
    with pytest.raises(ValueError, match=message):
        space.decode(tokens(space.num_choices))
