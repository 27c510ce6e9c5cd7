import pytest
import torch
from torch import nn

from enas.children.base import draw_as_pytorch


@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Conv2d(8, 64, 3),
        lambda: nn.Conv2d(64, 64, 5, groups=64, bias=False),
        lambda: nn.Linear(50, 80),
    ],
)
def test_weights_are_spread_as_pytorch_spreads_them(make):
    torch.manual_seed(0)
    own, drawn = make(), make()
    draw_as_pytorch(nn.Sequential(drawn), torch.Generator().manual_seed(1))
    for expected, weight in zip(own.parameters(), drawn.parameters(), strict=True):
        assert not torch.equal(expected, weight)
        assert weight.abs().max().item() == pytest.approx(expected.abs().max().item(), rel=0.1)
        assert weight.std().item() == pytest.approx(expected.std().item(), rel=0.15)


def test_batch_norm_starts_anew():
    norm = nn.BatchNorm2d(3)
    with torch.no_grad():
        for tensor in norm.state_dict().values():
            tensor.fill_(7)
    draw_as_pytorch(norm, torch.Generator())
    assert all(torch.equal(value, nn.BatchNorm2d(3).state_dict()[name]) for name, value in norm.state_dict().items())
