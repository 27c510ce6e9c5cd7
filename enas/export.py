"""The answer of a search as files, and back: an architecture, its drawing, its network with the inherited weights.

`best_architecture.json` says everything about the network; `best_architecture.safetensors` holds its part of the shared weights
(see `SharedWeights.standalone` for BatchNorm's statistics);
`best_architecture.svg` and `.png` draw it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isfinite
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn

from enas.answers import ANSWER, read_answer
from enas.atomic_file import write_atomically
from enas.children.base import Child
from enas.children.cost import Cost, measure_cost
from enas.datasets.data import Data
from enas.derive import Candidate
from enas.devices import choose_memory_format
from enas.draw import save_drawing
from enas.metrics import ACCURACY, METRICS, Metric
from enas.shared_weights import SharedWeights
from enas.spaces import make_child_config
from enas.spaces.base import ChildConfig


class DerivedNetwork(nn.Module):
    """One architecture as an ordinary module: images or tokens in, logits out.

    Args:
        child: the standalone network.
        architecture: the one it was built for.
        mean, std: of images, per channel, fractions, of the data it was searched on; empty for tokens.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, child: Child, architecture: Any, *, mean: Sequence[float] = (), std: Sequence[float] = ()) -> None:
        super().__init__()
        self.child = child
        self.architecture = architecture
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """Classify images, float (B, C, H, W) in [0, 1] (divide uint8 by 255 first): logits (B, num_classes).

        Or predict a text's next tokens from tokens, int64 (B, T): logits (B * T, num_classes), row after row.
        """
        examples = (inputs - self.mean) / self.std if len(self.mean) else inputs
        logits: Tensor = self.child(examples, self.architecture).logits
        return logits


@dataclass(frozen=True, kw_only=True)
class Answer:
    """The answer of a search.

    Attributes:
        architecture: a member of the space.
        candidate: its tokens and shared-weight measurements.
        cost: of its standalone network.
        text: in the format others use for the space.
        metric: how results on the data are told.
    """

    architecture: Any
    candidate: Candidate
    cost: Cost
    text: str
    metric: Metric = ACCURACY

    @property
    def valid(self) -> float:
        """The metric on the whole validation set, with shared weights."""
        return self.candidate.valid(self.metric)


def save_answer(folder: Path, shared: SharedWeights, candidate: Candidate, *, data: Data) -> Answer:
    """Write the files of an answer into a run folder. Args: data: that it was searched on."""
    space, config = shared.space, shared.child_config
    architecture = space.decode(candidate.tokens)
    cost = measure_cost(config, architecture, input_shape=shared.input_shape, num_classes=shared.num_classes)
    metric = METRICS[data.metric]
    answer = Answer(architecture=architecture, candidate=candidate, cost=cost, text=space.to_text(architecture), metric=metric)
    record = {
        "space": space.name,
        "text": answer.text,
        "tokens": list(candidate.tokens),
        "architecture": architecture.to_json(),
        "valid_accuracy": candidate.valid_accuracy,
        "valid_loss": candidate.valid_loss,
        f"valid_{metric.name}": answer.valid if isfinite(answer.valid) else None,  # JSON knows no infinity
        "parameters": cost.parameters,
        "flops": cost.flops,
        "network": {
            "child": asdict(config),  # type: ignore[call-overload]
            "input_shape": list(shared.input_shape),
            "num_classes": shared.num_classes,
            **data.preparation(),
        },
    }
    for name, text in data.files().items():
        write_atomically(folder / name, text)
    (folder / f"{ANSWER}.json").unlink(missing_ok=True)  # written last, so that it never stands beside another answer's files
    weights = {name: value.contiguous() for name, value in shared.standalone(architecture).state_dict().items()}
    write_atomically(folder / f"{ANSWER}.safetensors", save(weights))
    title = f"shared-weight validation {metric.name} {metric.text(answer.valid)}, {cost.parameters:,} parameters"
    for suffix in ("svg", "png"):
        save_drawing(space.graph(architecture), folder / f"{ANSWER}.{suffix}", title=title)
    write_atomically(folder / f"{ANSWER}.json", json.dumps(record, indent=2) + "\n")
    return answer


def load_derived(folder: Path, *, child_config: ChildConfig | None = None) -> DerivedNetwork:
    """Return the network that a finished run derived, with its inherited weights, in evaluation mode.

    Args:
        folder: of the run.
        child_config: of the run's space; needed only for a space that is not among `enas.spaces.SPACES`.
    """
    record = read_answer(folder)
    network = record["network"]
    config = child_config or make_child_config(record["space"], network["child"])
    architecture = config.make_space().from_json(record["architecture"])
    shape = network["input_shape"] if "input_shape" in network else network["image_shape"]  # as it was called before texts
    child = config.make_child(input_shape=tuple(shape), num_classes=network["num_classes"], architecture=architecture)
    child.drop_auxiliary_head()
    child.load_state_dict(load_file(folder / f"{ANSWER}.safetensors"))
    child = child.to(memory_format=choose_memory_format(torch.device("cpu")))
    return DerivedNetwork(child, architecture, mean=network.get("mean", ()), std=network.get("std", ())).eval()
