from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import torch
from torch.autograd import DeviceType

from enas.children.depthwise import DepthwiseConv2d
from enas.children.fused_norm import fused_batch_norm
from enas.profiling import ARITHMETIC, KINDS, REST, covered, profile, summarise

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("spans", "length"),
    [
        ([], 0),
        ([(2, 5)], 3),
        ([(2, 5), (7, 8)], 4),
        ([(2, 5), (4, 8)], 6),
        ([(4, 8), (2, 5)], 6),
        ([(2, 9), (3, 4), (8, 10)], 8),
    ],
)
def test_pieces_that_overlap_are_covered_once(spans, length):
    assert covered(spans) == length


def test_operators_count_by_kind():
    images, filters = torch.randn(8, 6, 12, 12), torch.randn(6, 6, 3, 3, requires_grad=True)

    def work() -> None:
        out = torch.nn.functional.conv2d(images, filters, padding=1)
        torch.nn.functional.max_pool2d(out, 3).sum().backward()

    found = profile(work, CPU)
    assert {kind for kind, spent in found.kinds.items() if spent} >= {"convolution", "pooling", ARITHMETIC}
    assert found.kinds["BatchNorm"] == found.kinds["matrix product"] == found.kinds["optimizer"] == 0
    assert sum(found.kinds.values()) >= found.seconds > 0


def test_what_lies_within_a_fused_batch_norm_is_batch_norm():
    images = torch.randn(4, 20, 8, 8).contiguous(memory_format=torch.channels_last).requires_grad_()
    weight, bias = torch.ones(20, requires_grad=True), torch.zeros(20, requires_grad=True)
    grad = torch.randn_like(images)

    def work() -> None:
        fused_batch_norm(images, weight, bias, eps=1e-5, relu=True)[0].backward(grad)

    found = profile(work, CPU)
    assert found.kinds["BatchNorm"] > 0
    assert found.kinds["matrix product"] == 0


def test_gradient_of_a_depthwise_convolution_is_convolution(monkeypatch):
    monkeypatch.setattr("enas.children.depthwise.LEAST_ELEMENTS", 1)
    conv = DepthwiseConv2d(6, 5)
    images = torch.randn(4, 6, 8, 8).contiguous(memory_format=torch.channels_last)
    grad = torch.randn_like(images)
    found = profile(lambda: conv(images).backward(grad), CPU)
    assert found.kinds["convolution"] > 0
    assert found.kinds["copy"] == 0  # the padding, the columns side by side


def test_steps_of_an_optimizer_are_its_own():
    weight = torch.nn.Parameter(torch.randn(5))
    optimizer = torch.optim.SGD([weight], lr=0.1)
    weight.grad = torch.ones(5)
    found = profile(optimizer.step, CPU)
    assert found.kinds["optimizer"] > 0
    assert found.kinds[ARITHMETIC] == 0


def test_operators_that_call_others_do_not_count_twice():
    a, b = torch.randn(3, 4), torch.randn(4, 5)
    assert profile(lambda: (a @ b).relu(), CPU).num_calls == 2  # mm within matmul, clamp_min within relu
    assert profile(lambda: a.add(1), CPU).num_calls == 1


def test_time_between_operators_is_the_rest():
    def work() -> None:
        torch.ones(3).add_(1)
        time.sleep(0.03)

    found = profile(work, CPU)
    assert found.kinds[REST] > 0.025
    assert found.seconds - found.kinds[REST] < 0.01


def event(name: str, **values: object) -> SimpleNamespace:
    on_cpu: dict[str, object] = {
        "device_type": DeviceType.CPU,
        "self_cpu_time_total": 7.0,
        "self_device_time_total": 0.0,
        "is_user_annotation": False,
    }
    return SimpleNamespace(**{"name": name, "cpu_parent": None, "cpu_children": [], **on_cpu, **values})


def kernel(name: str, start: float, end: float) -> SimpleNamespace:
    return event(name, device_type=DeviceType.CUDA, time_range=SimpleNamespace(start=start, end=end))


def test_on_an_accelerator_kernels_count_and_the_rest_is_idle():
    """By construction: no accelerator is needed."""
    outer = event("autograd::engine::evaluate_function: ConvolutionBackward0")
    events = [
        outer,
        event("aten::convolution_backward", cpu_parent=outer, self_device_time_total=300.0),
        event("aten::add", self_device_time_total=100.0),
        event("aten::copy_", self_device_time_total=50.0),
        kernel("sm90_xmma_dgrad", 0, 300),
        kernel("elementwise_kernel", 250, 400),  # beside the other in part
        kernel("Memcpy DtoD", 600, 650),
        SimpleNamespace(**vars(kernel("Optimizer.step#SGD.step", 0, 900)) | {"is_user_annotation": True}),
    ]
    found = summarise(events, 1e-3, GPU)
    assert found.num_calls == 2
    assert found.kinds["convolution"] == pytest.approx(300e-6)
    assert found.kinds[ARITHMETIC] == pytest.approx(100e-6)
    assert found.kinds["copy"] == pytest.approx(50e-6)
    assert found.kinds[REST] == pytest.approx(1e-3 - 450e-6)
    assert set(found.kinds) == {*KINDS, ARITHMETIC, REST}


def test_device_that_the_profiler_does_not_see_is_refused():
    with pytest.raises(ValueError, match=r"device: expected one that PyTorch's profiler sees .*, got mps"):
        profile(lambda: None, torch.device("mps"))
