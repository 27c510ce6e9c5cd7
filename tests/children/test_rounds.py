import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enas.children.batch_norm import BatchNorm, batch_norms, batch_statistics, separate_batches
from enas.children.rounds import Call, Rounds, RoundsChild, idle, joining_pays, run_alone, run_joined, run_sharing, total
from enas.memory_peak import memory_peak
from enas.seeding import derive_generator
from enas.spaces import SPACES
from enas.spaces.sampling import sample_uniform
from tests.children.kernels import Kernels

SMALL: dict[str, dict[str, Any]] = {
    "macro": {"num_layers": 6, "filters": 4},
    "micro": {"num_layers": 1, "num_nodes": 2, "filters": 4},
    "nasbench201": {"filters": 4, "cells_per_stage": 1},
    "darts": {"num_layers": 3, "filters": 4, "num_nodes": 2},
}


def make(name: str, **changes: Any) -> tuple[RoundsChild, list[Any]]:
    """Return a supernet in evaluation mode and some of its architectures, two of them equal."""
    config = SPACES[name](**SMALL[name] | changes)
    child = config.make_child(input_shape=(3, 9, 8), num_classes=5)
    child.reset_parameters(derive_generator(0, "weights"))
    space = config.make_space()
    tokens = sample_uniform(space, 7, np.random.default_rng(0))
    assert isinstance(child, RoundsChild)
    return child.double().eval(), [space.decode(row) for row in [*tokens, tokens[2]]]


def images(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=derive_generator(seed, "images"), dtype=torch.float64)


def count_convolutions(work: Any) -> int:
    with Kernels() as kernels, torch.no_grad():
        work()
    return kernels.count("aten.convolution.default")


@pytest.mark.parametrize(
    ("is_shared", "statistics", "layout"),
    [
        pytest.param(True, "batch", torch.channels_last, id="one-batch"),
        pytest.param(False, "batch", torch.contiguous_format, id="own-batches"),
        pytest.param(True, "running", torch.contiguous_format, id="running"),
    ],
)
@pytest.mark.parametrize("name", SMALL)
@torch.no_grad()
def test_together_is_as_alone(name: str, is_shared: bool, statistics: str, layout: torch.memory_format):
    child, architectures = make(name)
    child.to(memory_format=layout)
    batches = [images(6, 3, 9, 8, seed=0 if is_shared else index).contiguous(memory_format=layout) for index in range(8)]
    batches = batches[:1] * 8 if is_shared else batches
    norms = batch_norms(child) if statistics == "batch" else []
    with batch_statistics(norms):
        alone = [child(x, one).logits for x, one in zip(batches, architectures, strict=True)]
        for run in (run_sharing, run_joined):
            passes = [child.rounds(x, one) for x, one in zip(batches, architectures, strict=True)]
            for expected, found in zip(alone, run(passes), strict=True):
                if run is run_sharing:
                    torch.testing.assert_close(found.logits, expected, rtol=0, atol=0)
                else:
                    torch.testing.assert_close(found.logits, expected, rtol=1e-11, atol=1e-12)
    assert len({tuple(logits.flatten().tolist()) for logits in alone}) > 4  # they do differ, but for cells that are isomorphic


@pytest.mark.parametrize("name", SMALL)
def test_joined_runs_a_block_once_a_round(name: str):
    child, architectures = make(name)
    x = images(2, 3, 9, 8)
    passes = [list(_blocks(child.rounds(x, one))) for one in architectures]
    expected = 0
    for calls in zip(*passes, strict=True):  # as many rounds each
        blocks = {(call.block, call.options, *(one.shape for one in call.inputs)): call for one in calls for call in one}
        expected += sum(count_convolutions(call) for call in blocks.values() if isinstance(call.block, nn.Module))
    found = count_convolutions(lambda: run_joined([child.rounds(x, one) for one in architectures]))
    assert found == expected
    assert found < 0.7 * count_convolutions(lambda: [child(x, one) for one in architectures])


def _blocks(rounds: Rounds[Any]) -> Any:
    """Run a pass; yield its calls, round by round."""
    answers = None
    with torch.no_grad():
        while True:
            try:
                calls = rounds.send(answers)  # type: ignore[arg-type]
            except StopIteration:
                return
            yield calls
            answers = [call() for call in calls]


@pytest.mark.parametrize("name", SMALL)
def test_sharing_computes_a_common_beginning_once(name: str):
    child, architectures = make(name)
    x = images(2, 3, 9, 8)
    one = count_convolutions(lambda: child(x, architectures[0]))
    same = [child.rounds(x, architectures[0]) for _ in range(5)]
    assert count_convolutions(lambda: run_sharing(same)) == one
    others = count_convolutions(lambda: [child(x, architecture) for architecture in architectures])
    together = count_convolutions(lambda: run_sharing([child.rounds(x, architecture) for architecture in architectures]))
    own = count_convolutions(lambda: child(x, architectures[2]))  # which is there twice
    stem = 1
    assert together <= others - own - 6 * stem


def test_sharing_goes_as_far_as_two_macro_architectures_agree():
    child, [architecture, *_] = make("macro")
    config = SPACES["macro"](**SMALL["macro"])
    space = config.make_space()
    tokens = np.array(space.encode(architecture))
    tokens[-6] = (tokens[-6] + 1) % len(config.operations)  # the operation of the last layer, before its skips
    other = space.decode(tokens)
    assert other.skips == architecture.skips
    x = images(2, 3, 9, 8)
    both = count_convolutions(lambda: run_sharing([child.rounds(x, architecture), child.rounds(x, other)]))
    first, second = (count_convolutions(lambda one=one: child(x, one)) for one in (architecture, other))
    last = {"conv3x3": 2, "conv5x5": 2, "sep3x3": 3, "sep5x5": 3, "avg3x3": 1, "max3x3": 1}
    assert both == first + last[other.operations[-1]]
    assert both == second + last[architecture.operations[-1]]


def test_sharing_holds_no_more_than_a_pass_and_what_is_common():
    child, architectures = make("macro")
    x = images(16, 3, 32, 32)

    def run(count: int) -> Any:
        with torch.no_grad():
            return run_sharing([child.rounds(x, one) for one in architectures[:count]])

    peaks = [memory_peak(lambda count=count: run(count), torch.device("cpu")) for count in (1, 7)]
    joined = memory_peak(lambda: run_joined([child.rounds(x, one) for one in architectures[:7]]), torch.device("cpu"))
    assert peaks[1] < 1.5 * peaks[0]
    assert joined > 3 * peaks[0]  # which is what the choice between the two is about


def test_passes_of_different_lengths_are_refused():
    def rounds(count: int) -> Rounds[None]:
        yield from idle(count)

    with pytest.raises(ValueError, match="expected passes of as many rounds, got 1 that ended before 2 others"):
        run_joined([rounds(3), rounds(1), rounds(3)])


def test_errors_of_a_call_reach_the_caller():
    def rounds() -> Rounds[Tensor]:
        [out] = yield [Call(total, (torch.ones(2), torch.ones(3)))]
        return out

    for run in (lambda: run_alone(rounds()), lambda: run_sharing([rounds()]), lambda: run_joined([rounds()])):
        with pytest.raises(RuntimeError, match="size of tensor"):
            run()


def test_equal_calls_of_a_round_are_answered_in_their_order():
    x, y = torch.ones(2, 1), torch.full((2, 1), 3.0)
    layer = nn.Linear(1, 1, bias=False)

    def rounds(*inputs: Tensor) -> Rounds[list[Tensor]]:
        return (yield [Call(layer, (one,)) for one in inputs])

    for run in (run_sharing, run_joined):
        with torch.no_grad():
            first, second = run([rounds(x, y, x), rounds(y, x, x)])
            for answers, inputs in ((first, (x, y, x)), (second, (y, x, x))):
                torch.testing.assert_close(torch.stack(answers), torch.stack([layer(one) for one in inputs]))


@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["default", "channels_last"])
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@torch.no_grad()
def test_parts_of_a_batch_have_their_own_statistics(affine: bool, layout: torch.memory_format, dtype: torch.dtype):
    norm = BatchNorm(3, relu=True, affine=affine).to(torch.float64 if dtype == torch.float64 else torch.float32)
    parts = [(10.0**index * images(4, 3, 5, 6, seed=index) + 100 * index).to(dtype) for index in range(3)]
    x = torch.cat(parts).contiguous(memory_format=layout)
    with batch_statistics([norm.eval()]):
        expected = torch.cat([copy.deepcopy(norm).double()(part.double()) for part in parts]).to(dtype)
        with separate_batches(3):
            found = norm(x)
        assert found.dtype == expected.dtype
        assert found.is_contiguous(memory_format=layout)
        tolerance = 1e-11 if dtype == torch.float64 else 4e-3  # half a unit of bfloat16's last place
        torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)
        assert not torch.allclose(norm(x), expected, atol=0.1)  # together they have others
    assert norm.num_batches_tracked == 0
    torch.testing.assert_close(norm.running_mean, torch.zeros_like(norm.running_mean))


def test_joining_is_for_accelerators_and_for_layers_that_keep_parts_apart():
    child, _ = make("macro")
    assert not joining_pays(child, torch.zeros(1))
    assert joining_pays(child, torch.zeros(1, device="meta"))
    foreign = nn.Sequential(child, nn.BatchNorm2d(3))
    assert not joining_pays(foreign, torch.zeros(1, device="meta"))
