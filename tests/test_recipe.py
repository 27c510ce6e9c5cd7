import dataclasses
import warnings

import pytest
import torch

import enas.recipe
from enas.children.cost import count_parameters, size_of
from enas.configs import RetrainConfig
from enas.datasets.augment import Augmentation
from enas.recipe import Recipe
from enas.spaces.micro import MicroConfig

CHILD = MicroConfig(num_layers=1, num_nodes=3, filters=4, aux_head=False)
SHAPE = {"image_shape": (1, 8, 8), "num_classes": 3}


@pytest.fixture
def recipe(images):
    return Recipe(
        child=CHILD,
        data=images,
        retrain=RetrainConfig(random=6),
        augmentation=Augmentation(),
        seed=3,
        device=torch.device("cpu"),
        precision="fp32",
    )


def within(recipe, share):
    return dataclasses.replace(recipe, retrain=dataclasses.replace(recipe.retrain, random_within=share))


def test_size_is_that_of_the_network_with_its_weights():
    space = CHILD.make_space()
    for architecture in (space.smallest(), space.largest()):
        network = CHILD.make_child(**SHAPE, architecture=architecture)
        assert size_of(CHILD, architecture, **SHAPE) == count_parameters(network)


def test_random_architectures_of_any_size_follow_from_the_seed(recipe):
    space = CHILD.make_space()
    found = recipe.random_architectures(space.largest())
    assert found == recipe.random_architectures(space.smallest())
    assert len(set(found)) == 6
    assert found != dataclasses.replace(recipe, seed=4).random_architectures(space.largest())


def test_random_architectures_of_about_the_same_size_are_about_as_large(recipe):
    space = CHILD.make_space()
    middle = recipe.random_architectures(space.smallest())[0]
    expected = size_of(CHILD, middle, **SHAPE)
    found = within(recipe, 0.1).random_architectures(middle)
    sizes = [size_of(CHILD, architecture, **SHAPE) for architecture in found]
    assert len(found) == 6
    assert all(abs(size - expected) <= 0.1 * expected for size in sizes)
    others = [size_of(CHILD, architecture, **SHAPE) for architecture in recipe.random_architectures(middle)]
    assert any(abs(size - expected) > 0.1 * expected for size in others)


def test_too_few_architectures_of_that_size_are_told(recipe, monkeypatch):
    monkeypatch.setattr(enas.recipe, "MAX_DRAWS", 20)
    with pytest.warns(RuntimeWarning, match=r"only 0 of 20 random architectures are within 0.001 of [\d,]+ parameters, 6 were"):
        assert within(recipe, 0.001).random_architectures(CHILD.make_space().largest()) == []


def test_none_asked_for_are_none(recipe):
    none = dataclasses.replace(recipe, retrain=RetrainConfig(random=0, random_within=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert none.random_architectures(CHILD.make_space().largest()) == []
