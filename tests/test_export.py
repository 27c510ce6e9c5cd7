from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from enas.answers import read_answer
from enas.children.cost import count_parameters
from enas.configs import SharedConfig
from enas.datasets.images import ImageData
from enas.derive import Candidate
from enas.export import load_derived, save_answer
from enas.shared_weights import SharedWeights
from enas.spaces.macro import MacroConfig
from enas.spaces.micro import MicroConfig
from enas.types import PathBatch

TOKENS = (0, 3, 1, 5, 0, 1)
CANDIDATE = Candidate(tokens=TOKENS, valid_accuracy=0.75, valid_loss=0.5)


@pytest.fixture
def shared(images: ImageData) -> SharedWeights:
    weights = SharedWeights(MacroConfig(num_layers=3, filters=4), images, SharedConfig(batch_size=16, valid_batch_size=30))
    paths = PathBatch(tokens=np.array([TOKENS]), loss_weights=np.ones(1))
    for _ in range(3):
        weights.train_step(paths)
    return weights


@pytest.fixture
def folder(tmp_path: Path, shared: SharedWeights, images: ImageData) -> Path:
    save_answer(tmp_path, shared, CANDIDATE, data=images)
    return tmp_path


def fractions(images: ImageData) -> Tensor:
    return images.valid.images / 255


@torch.no_grad()
def supernet_logits(shared: SharedWeights, images: Tensor) -> Tensor:
    return shared.child.eval()(images, shared.space.decode(TOKENS)).logits


def test_derived_network_is_the_supernet_on_its_architecture(folder, shared, images):
    network = load_derived(folder)
    mean, std = (torch.tensor(values)[:, None, None] for values in (images.mean, images.std))
    normalised = (fractions(images) - mean) / std
    with torch.no_grad():
        assert torch.equal(network(fractions(images)), supernet_logits(shared, normalised))
        assert torch.equal(network.child(normalised, network.architecture).logits, supernet_logits(shared, normalised))


def test_derived_network_classifies_as_the_search_measured(folder, shared, images):
    (batch,) = shared.valid_stream.whole(30)
    by_pixels = {tuple(row): index for index, row in enumerate(images.valid.images.flatten(1).tolist())}
    pixels = (batch.inputs * images.std[0] + images.mean[0]).mul(255).round().int().flatten(1).tolist()
    order = [by_pixels[tuple(row)] for row in pixels]
    with torch.no_grad():
        logits = load_derived(folder)(fractions(images))[order]
    torch.testing.assert_close(logits, supernet_logits(shared, batch.inputs), rtol=1e-5, atol=1e-5)
    accuracy = (logits.argmax(dim=1) == batch.labels).double().mean()
    assert shared.evaluate_all([shared.space.decode(TOKENS)]).accuracy[0] == float(accuracy)


def test_derived_network_holds_nothing_but_its_path(folder, shared):
    network = load_derived(folder)
    assert not network.training
    assert count_parameters(network) == read_answer(folder)["parameters"] < count_parameters(shared.child)
    assert set(network.child.state_dict()) < set(shared.child.state_dict())


def test_configuration_of_a_users_own_space_may_be_given(folder, images):
    given = load_derived(folder, child_config=MacroConfig(num_layers=3, filters=4))
    with torch.no_grad():
        assert torch.equal(given(fractions(images)), load_derived(folder)(fractions(images)))


@pytest.mark.parametrize("with_gradients", [True, False])
def test_derived_network_exports_with_any_batch_size(folder, images, with_gradients):
    network = load_derived(folder)
    batch = {0: torch.export.Dim("batch", min=1)}
    with torch.set_grad_enabled(with_gradients):
        program = torch.export.export(network, (fractions(images)[:4],), dynamic_shapes=(batch,))
    with torch.no_grad():
        for size in (1, 7, 30):
            some = fractions(images)[:size]
            torch.testing.assert_close(program.module()(some), network(some))


def test_record_says_everything_about_the_network(folder, images):
    record = json.loads((folder / "best_architecture.json").read_text(encoding="utf-8"))
    space = MacroConfig(num_layers=3).make_space()
    architecture = space.decode(TOKENS)
    assert record == {
        "space": "macro",
        "text": "0\n3 1\n5 0 1",
        "tokens": list(TOKENS),
        "architecture": {"operations": ["conv3x3", "sep5x5", "max3x3"], "skips": [[], [0], [1]]},
        "valid_accuracy": 0.75,
        "valid_loss": 0.5,
        "parameters": record["parameters"],
        "flops": record["flops"],
        "network": {
            "child": {
                "num_layers": 3,
                "filters": 4,
                "keep_prob": 0.9,
                "double_filters": False,
                "operations": ["conv3x3", "sep3x3", "conv5x5", "sep5x5", "avg3x3", "max3x3"],
                "final": "searched",
            },
            "input_shape": [1, 8, 8],
            "num_classes": 3,
            "mean": list(images.mean),
            "std": list(images.std),
        },
    }
    assert space.from_json(record["architecture"]) == architecture == space.from_text(record["text"])


def test_answer_and_drawings_are_files_of_their_kind(tmp_path, shared, images):
    answer = save_answer(tmp_path, shared, CANDIDATE, data=images)
    assert answer.candidate is CANDIDATE
    assert answer.architecture == shared.space.decode(TOKENS)
    assert (tmp_path / "best_architecture.png").read_bytes().startswith(b"\x89PNG")
    assert "<svg" in (tmp_path / "best_architecture.svg").read_text(encoding="utf-8")
    assert "75.00%" in (tmp_path / "best_architecture.svg").read_text(encoding="utf-8")


def test_record_is_read_from_the_folder_or_the_file(folder):
    assert read_answer(folder) == read_answer(folder / "best_architecture.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "expected the answer of a finished search, got no such file"),
        (b"", "expected a JSON file, got Expecting value"),
        (b"{not json", "expected a JSON file, got Expecting property name"),
        (b"\xff\xfe\x00", "expected a JSON file, got 'utf-8' codec can't decode"),
        (b"[1, 2]", "expected the answer of a search; it lacks space, architecture, network"),
        (b"7", "expected the answer of a search; it lacks space, architecture, network"),
        (b'{"space": "macro", "network": {}}', "expected the answer of a search; it lacks architecture"),
    ],
)
def test_file_that_is_no_answer_is_refused_by_name(content, message, tmp_path):
    file = tmp_path / "best_architecture.json"
    if content is not None:
        file.write_bytes(content)
    for given in (tmp_path, file):
        with pytest.raises(ValueError, match=message) as caught:
            read_answer(given)
        assert str(caught.value).startswith(f"{file}: ")


def test_answer_of_before_there_were_texts_is_read(folder, images):
    with torch.no_grad():
        expected = load_derived(folder)(fractions(images))
    network = read_answer(folder)["network"]
    change(folder, network={**{name: network[name] for name in network if name != "input_shape"}, "image_shape": [1, 8, 8]})
    with torch.no_grad():
        assert torch.equal(load_derived(folder)(fractions(images)), expected)


def change(folder: Path, **changes: Any) -> None:
    file = folder / "best_architecture.json"
    file.write_text(json.dumps({**read_answer(folder), **changes}))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": "unknown"}, "space: expected one of .*, got 'unknown'"),
        ({"architecture": {"operations": ["conv3x3"], "skips": [[]]}}, "expected 3 operations and skip lists, got 1 and 1"),
        ({"architecture": {"operations": ["conv9x9"] * 3, "skips": [[]] * 3}}, "expected an operation out of .*, got 'conv9x9'"),
    ],
)
def test_answer_of_another_space_is_refused(changes, message, folder):
    change(folder, **changes)
    with pytest.raises(ValueError, match=message):
        load_derived(folder)


def test_derived_network_has_no_auxiliary_head_and_the_parameters_that_are_told(tmp_path, images):
    config = MicroConfig(num_layers=1, num_nodes=2, filters=4)
    shared = SharedWeights(config, images, SharedConfig(batch_size=20, valid_batch_size=10, batch_norm="batch"))
    tokens = shared.space.encode(shared.space.smallest())
    candidate = Candidate(tokens=tokens, valid_accuracy=0.5, valid_loss=1.0)
    answer = save_answer(tmp_path, shared, candidate, data=images)
    network = load_derived(tmp_path)
    assert shared.child.auxiliary_head is not None
    assert network.child.auxiliary_head is None
    assert sum(parameter.numel() for parameter in network.parameters()) == answer.cost.parameters
    assert not any("auxiliary" in name for name in load_file(tmp_path / "best_architecture.safetensors"))
