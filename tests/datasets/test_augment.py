from __future__ import annotations

import pytest
import torch
from torch import Tensor

from enas.datasets.augment import Augmentation, augment, draw_noise

SHAPES = [(3, 32, 32), (1, 28, 28), (1, 8, 8), (3, 96, 96), (2, 5, 9), (4, 1, 1)]
AUGMENTATIONS = [
    Augmentation(),
    Augmentation(pad=0, flip=False, cutout=3),
    Augmentation(pad=2, flip=False),
    Augmentation(pad=0, flip=True),
    Augmentation(pad=3, flip=True, cutout=4),
    Augmentation(pad=11, flip=True, cutout=50),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_by_one(images: Tensor, augmentation: Augmentation, noise: Tensor) -> Tensor:
    """The plain reading of the papers: pad, crop, flip, cut out, image by image and pixel by pixel."""
    num_images, channels, height, width = images.shape
    pad, side = augmentation.pad, augmentation.cutout
    result = []
    for image, (top, left, mirrored, row, column) in zip(images, noise.T.tolist(), strict=True):
        padded = image.new_zeros(channels, height + 2 * pad, width + 2 * pad)
        padded[:, pad : pad + height, pad : pad + width] = image
        out = padded[:, top : top + height, left : left + width].clone()
        if augmentation.flip and mirrored:
            out = out.flip(-1)
        for y in range(row - side // 2, row - side // 2 + side):
            for x in range(column - side // 2, column - side // 2 + side):
                if 0 <= y < height and 0 <= x < width:
                    out[:, y, x] = 0
        result.append(out)
    assert len(result) == num_images
    return torch.stack(result)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("augmentation", AUGMENTATIONS)
def test_whole_batch_equals_image_by_image(augmentation: Augmentation, shape: tuple[int, int, int]) -> None:
    images = torch.randn(6, *shape, generator=generator(1))
    noise = draw_noise(6, (shape[1], shape[2]), augmentation, generator())
    assert torch.equal(augment(images, augmentation, generator()), one_by_one(images, augmentation, noise))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64, torch.uint8])
def test_dtype_and_shape_stay(dtype: torch.dtype) -> None:
    images = torch.ones(3, 2, 8, 9, dtype=dtype)
    result = augment(images, Augmentation(cutout=2), generator())
    assert (result.dtype, result.shape) == (dtype, images.shape)


def test_input_is_left_as_it_was() -> None:
    images = torch.randn(8, 3, 8, 8, generator=generator(1))
    before = images.clone()
    augment(images, Augmentation(cutout=4), generator())
    assert torch.equal(images, before)


def test_channels_last_images_give_the_same_result() -> None:
    images = torch.randn(8, 3, 8, 8, generator=generator(1))
    expected = augment(images, Augmentation(), generator())
    assert torch.equal(augment(images.contiguous(memory_format=torch.channels_last), Augmentation(), generator()), expected)


def test_nothing_switched_on_changes_nothing() -> None:
    images = torch.randn(8, 3, 8, 8, generator=generator(1))
    assert torch.equal(augment(images, Augmentation(pad=0, flip=False), generator()), images)


def test_flip_mirrors_about_half_of_the_images_and_does_nothing_else() -> None:
    images = torch.randn(1000, 1, 2, 4, generator=generator(1))
    result = augment(images, Augmentation(pad=0), generator())
    same = (result == images).flatten(1).all(1)
    mirrored = (result == images.flip(-1)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 430 < int(mirrored.sum()) < 570  # 500 +- 4.4 standard deviations


def test_every_crop_is_drawn_evenly() -> None:
    top, left, mirrored, row, column = draw_noise(8100, (8, 6), Augmentation(pad=4), generator())
    for values, num_values in ((top, 9), (left, 9), (mirrored, 2), (row, 8), (column, 6)):
        counts = torch.bincount(values, minlength=num_values)
        expected = 8100 / num_values
        assert len(counts) == num_values
        assert float((counts - expected).abs().max()) < 5 * expected**0.5


def test_cutout_covers_a_square_that_the_borders_clip() -> None:
    augmentation = Augmentation(pad=0, flip=False, cutout=6)
    is_zero = augment(torch.ones(200, 3, 16, 16), augmentation, generator()) == 0
    row, column = draw_noise(200, (16, 16), augmentation, generator())[3:]

    def clipped(centre: Tensor) -> Tensor:
        return (centre + 3).clamp(max=16) - (centre - 3).clamp(min=0)

    area = clipped(row) * clipped(column)
    assert torch.equal(is_zero.sum((2, 3)), area.unsqueeze(1).expand(-1, 3))
    assert int(area.max()) == 36  # a whole square
    assert int(area.min()) < 18  # one near a corner


def test_cutout_larger_than_the_image_clears_it() -> None:
    assert not augment(torch.ones(4, 1, 8, 8), Augmentation(cutout=99), generator()).any()


def test_cutout_leaves_the_crops_and_flips_as_they_are() -> None:
    images = torch.rand(50, 1, 12, 12, generator=generator(1)) + 1
    plain = augment(images, Augmentation(), generator())
    cut = augment(images, Augmentation(cutout=4), generator())
    assert torch.equal(cut[cut != 0], plain[cut != 0])
    assert bool((cut == 0).sum() > (plain == 0).sum())


def test_padding_is_exactly_zero() -> None:
    images = torch.full((64, 1, 4, 4), 7.0)
    values = augment(images, Augmentation(pad=4), generator())
    assert set(values.flatten().tolist()) == {0.0, 7.0}


def test_same_generator_state_gives_the_same_images() -> None:
    images = torch.randn(32, 3, 8, 8, generator=generator(1))
    first, second = (augment(images, Augmentation(cutout=2), generator(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, augment(images, Augmentation(cutout=2), generator(6)))


@pytest.mark.parametrize("name", ["pad", "cutout"])
def test_negative_sizes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}: expected at least 0 pixels, got -1"):
        Augmentation(**{name: -1})  # type: ignore[arg-type]
