import dataclasses
import io
import json
import warnings
from itertools import count

import pytest
import torch
from rich.console import Console

import enas.recipe
from enas.children.cost import count_parameters, size_of
from enas.configs import RetrainConfig
from enas.datasets.augment import Augmentation
from enas.errors import Stopped
from enas.recipe import RANDOM_FILE, Recipe, train_all
from enas.spaces.micro import MicroConfig

CHILD = MicroConfig(num_layers=1, num_nodes=3, filters=4, aux_head=False)
SHAPE = {"input_shape": (1, 8, 8), "num_classes": 3}


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


def test_random_architectures_of_any_size_follow_from_the_seed(recipe, tmp_path):
    space = CHILD.make_space()
    found = recipe.random_architectures(space.largest(), tmp_path)
    assert found == recipe.random_architectures(space.smallest(), tmp_path)
    assert len(set(found)) == 6
    assert found != dataclasses.replace(recipe, seed=4).random_architectures(space.largest(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def middle_of(recipe, folder):
    """An architecture that is neither very small nor very large."""
    return recipe.random_architectures(CHILD.make_space().smallest(), folder)[0]


def test_random_architectures_of_about_the_same_size_are_about_as_large(recipe, tmp_path):
    middle = middle_of(recipe, tmp_path)
    expected = size_of(CHILD, middle, **SHAPE)
    found = within(recipe, 0.1).random_architectures(middle, tmp_path)
    sizes = [size_of(CHILD, architecture, **SHAPE) for architecture in found]
    assert len(found) == 6
    assert all(abs(size - expected) <= 0.1 * expected for size in sizes)
    others = [size_of(CHILD, architecture, **SHAPE) for architecture in recipe.random_architectures(middle, tmp_path)]
    assert any(abs(size - expected) > 0.1 * expected for size in others)


def test_too_few_architectures_of_that_size_are_told_again_when_read_back(recipe, monkeypatch, tmp_path):
    monkeypatch.setattr(enas.recipe, "MAX_DRAWS", 20)
    for _ in range(2):
        message = r"only 0 of 20 random architectures are within 0.001 of [\d,]+ parameters, 6 were"
        with pytest.warns(RuntimeWarning, match=message):
            assert within(recipe, 0.001).random_architectures(CHILD.make_space().largest(), tmp_path) == []


def test_none_asked_for_are_none(recipe, tmp_path):
    none = dataclasses.replace(recipe, retrain=RetrainConfig(random=0, random_within=0.1))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert none.random_architectures(CHILD.make_space().largest(), tmp_path) == []
    assert list(tmp_path.iterdir()) == []


# Looking for those of about the same size takes minutes: it can be stopped, and is not done twice.


@pytest.fixture
def sizes_counted(monkeypatch):
    """The architectures whose parameters were counted, in order."""
    counted = []

    def count_size(config, architecture, **shape):
        counted.append(architecture)
        return size_of(config, architecture, **shape)

    monkeypatch.setattr(enas.recipe, "size_of", count_size)
    return counted


@pytest.mark.parametrize("num_draws", [0, 1, 7])
def test_draw_that_was_stopped_goes_on_where_it_was(num_draws, recipe, tmp_path, sizes_counted):
    same_size, middle = within(recipe, 0.1), middle_of(recipe, tmp_path)
    calm = same_size.random_architectures(middle, tmp_path / "calm")
    looked_at = sizes_counted[1:]
    assert len(looked_at) > 7
    sizes_counted.clear()
    asked = count()
    with pytest.raises(Stopped, match=rf"about the same size \({num_draws} of at most 2000 draws, \d of 6 found\), saved"):
        same_size.random_architectures(middle, tmp_path, should_stop=lambda: next(asked) == num_draws)
    assert sizes_counted[1:] == looked_at[:num_draws]
    sizes_counted.clear()
    assert same_size.random_architectures(middle, tmp_path) == calm
    assert sizes_counted[1:] == looked_at[num_draws:]
    assert (tmp_path / RANDOM_FILE).read_bytes() == (tmp_path / "calm" / RANDOM_FILE).read_bytes()


def test_each_one_found_is_kept_at_once(recipe, tmp_path):
    """A process that is killed asks nobody."""
    file, kept = tmp_path / RANDOM_FILE, []

    def read(num_found):
        kept.append((num_found, len(json.loads(file.read_text())["found"]) if file.exists() else 0))

    within(recipe, 0.1).random_architectures(middle_of(recipe, tmp_path), tmp_path, on_draw=read)
    assert {found for found, _ in kept} == set(range(6))
    assert all(found == in_file for found, in_file in kept)


def test_what_was_found_is_read_back_without_counting_again(recipe, tmp_path, sizes_counted):
    same_size, middle = within(recipe, 0.1), middle_of(recipe, tmp_path)
    found = same_size.random_architectures(middle, tmp_path)
    record = json.loads((tmp_path / RANDOM_FILE).read_text())
    space = CHILD.make_space()
    tokens, names = list(space.encode(middle)), middle.to_json()
    assert record["drawn_for"] == {"tokens": tokens, "architecture": names, "seed": 3, "within": 0.1, "count": 6}
    assert [row["architecture"] for row in record["found"]] == [member.to_json() for member in found]
    assert (record["draws"], record["complete"]) == (len(sizes_counted) - 1, True)
    sizes_counted.clear()
    assert same_size.random_architectures(middle, tmp_path, should_stop=lambda: True) == found
    assert sizes_counted == []


@pytest.mark.parametrize("changed", ["architecture", "seed", "within", "count"])
def test_what_was_found_for_something_else_is_drawn_again(changed, recipe, tmp_path):
    middle, other = recipe.random_architectures(CHILD.make_space().smallest(), tmp_path)[:2]
    before = within(recipe, 0.1)
    before.random_architectures(middle, tmp_path)
    asked = {
        "architecture": before,
        "seed": dataclasses.replace(before, seed=4),
        "within": within(recipe, 0.05),
        "count": dataclasses.replace(before, retrain=RetrainConfig(random=5, random_within=0.1)),
    }[changed]
    architecture = other if changed == "architecture" else middle
    expected = asked.random_architectures(architecture, tmp_path / "fresh")
    assert asked.random_architectures(architecture, tmp_path) == expected
    assert (tmp_path / RANDOM_FILE).read_bytes() == (tmp_path / "fresh" / RANDOM_FILE).read_bytes()


@pytest.mark.parametrize("damage", ["", "{", "[]", "{}", "null", "half", "tokens"])
def test_damaged_file_is_drawn_again(damage, recipe, tmp_path):
    same_size, middle = within(recipe, 0.1), middle_of(recipe, tmp_path)
    found = same_size.random_architectures(middle, tmp_path)
    file = tmp_path / RANDOM_FILE
    text = file.read_text()
    record = json.loads(text)
    damaged = {"half": text[: len(text) // 2], "tokens": json.dumps({**record, "found": [{"tokens": [99]}]})}
    file.write_text(damaged.get(damage, damage))
    with pytest.warns(RuntimeWarning, match=r"random\.json is damaged; drawing anew"):
        assert same_size.random_architectures(middle, tmp_path) == found
    assert file.read_text() == text


# All trainings.


@pytest.fixture
def texts(monkeypatch):
    """What the bar shows: done, total, text."""
    shown = []
    monkeypatch.setattr("enas.recipe.ProgressBar.show", lambda _, done, total, text: shown.append((done, total, text)))
    return shown


def trained_in(folder, recipe, architecture, **options):
    config = dataclasses.replace(recipe.retrain, epochs=1, batch_size=30, seeds=2, random=3)
    recipe = dataclasses.replace(recipe, retrain=config)
    return train_all(recipe, architecture, folder, Console(file=io.StringIO()), name="searched", **options)


def test_random_architectures_are_looked_for_after_the_architectures_own_trainings(recipe, tmp_path, texts):
    middle = middle_of(recipe, tmp_path)
    own, random = trained_in(tmp_path, within(recipe, 0.1), middle)
    assert (len(own.results), len(random.results)) == (2, 3)
    kinds = list(dict.fromkeys(text.rstrip("0123456789 ")[:12] for _, _, text in texts))
    assert kinds == ["training sea", "looking for ", "training ran"]
    looking = [(done, total, text) for done, total, text in texts if text.startswith("looking")]
    assert looking[0] == (2, 5, "looking for random architectures of about the same size, 0 of 3 found")
    assert looking[-1] == (2, 5, "looking for random architectures of about the same size, 2 of 3 found")
    assert texts[-1][:2] == (5, 5)


def test_stop_while_looking_leaves_the_finished_trainings_and_goes_on(recipe, tmp_path, texts):
    middle, same_size = middle_of(recipe, tmp_path), within(recipe, 0.1)
    with pytest.raises(Stopped, match="stopped while looking for random architectures of about the same size"):
        trained_in(tmp_path, same_size, middle, should_stop=lambda: bool(texts) and "1 of 3 found" in texts[-1][2])
    assert {path.name for path in tmp_path.iterdir()} == {"searched-0", "searched-1", RANDOM_FILE}
    _, random = trained_in(tmp_path, same_size, middle)
    _, calm = trained_in(tmp_path / "calm", same_size, middle)
    assert random == calm


@pytest.mark.filterwarnings("ignore:only")
def test_progress_counts_the_random_architectures_that_were_found(recipe, tmp_path, texts, monkeypatch):
    monkeypatch.setattr(enas.recipe, "MAX_DRAWS", 6)
    _, random = trained_in(tmp_path, within(recipe, 0.1), middle_of(recipe, tmp_path))
    found = len(random.results)
    assert 0 < found < 3
    assert texts[-1][:2] == (2 + found, 2 + found)
