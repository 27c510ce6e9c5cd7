from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from enas.datasets.augment import Augmentation
from enas.datasets.batches import BatchStream
from enas.datasets.data import Batch
from enas.datasets.images import ImageSplit, channel_statistics

MEAN, STD = (0.5, 0.25, 0.1), (0.2, 0.3, 0.4)


def make_split(num_images: int = 23, shape: tuple[int, int, int] = (3, 8, 8)) -> ImageSplit:
    """Labels are the images' indices, so that a batch tells which images it holds."""
    generator = torch.Generator().manual_seed(3)
    return ImageSplit(
        images=torch.randint(0, 256, (num_images, *shape), dtype=torch.uint8, generator=generator),
        labels=torch.arange(num_images),
    )


def make_stream(
    split: ImageSplit, *, batch_size: int = 5, seed: int = 0, augmentation: Augmentation | None = None
) -> BatchStream:
    return BatchStream(split, batch_size=batch_size, seed=seed, mean=MEAN, std=STD, augmentation=augmentation)


def same(first: Batch, second: Batch) -> bool:
    return torch.equal(first.inputs, second.inputs) and torch.equal(first.labels, second.labels)


def normalised(images: Tensor) -> Tensor:
    mean, std = (torch.tensor(values, dtype=torch.float64).view(-1, 1, 1) for values in (MEAN, STD))
    return (images.double() / 255 - mean) / std


def epoch_labels(stream: BatchStream, epoch: int) -> list[int]:
    steps = range(epoch * stream.num_batches, (epoch + 1) * stream.num_batches)
    return [label for step in steps for label in stream.batch(step).labels.tolist()]


@pytest.mark.parametrize("augmentation", [None, Augmentation(cutout=3)])
def test_batch_depends_on_seed_and_step_alone(augmentation: Augmentation | None) -> None:
    split = make_split()
    forward = make_stream(split, augmentation=augmentation)
    in_order = [forward.batch(step) for step in range(12)]
    backward = make_stream(split, augmentation=augmentation)
    for step in [11, 3, 0, 7, 3, 11, 10, 1]:
        assert same(backward.batch(step), in_order[step])


@pytest.mark.parametrize("other_seed", [1, 2**40])
def test_another_seed_gives_other_orders_and_other_noise(other_seed: int) -> None:
    split = make_split()
    assert epoch_labels(make_stream(split), 0) != epoch_labels(make_stream(split, seed=other_seed), 0)
    single = ImageSplit(images=split.images[:1].repeat(4, 1, 1, 1), labels=split.labels[:1].repeat(4))
    first, second = (make_stream(single, batch_size=4, seed=seed, augmentation=Augmentation()) for seed in (0, other_seed))
    assert not torch.equal(first.batch(0).inputs, second.batch(0).inputs)


@pytest.mark.parametrize(("num_images", "batch_size"), [(23, 5), (20, 5), (5, 5), (9, 1)])
def test_epoch_visits_full_batches_of_distinct_images(num_images: int, batch_size: int) -> None:
    stream = make_stream(make_split(num_images), batch_size=batch_size)
    labels = epoch_labels(stream, 2)
    assert stream.num_batches == num_images // batch_size
    assert len(labels) == len(set(labels)) == stream.num_batches * batch_size


def test_epochs_have_different_orders_and_leave_out_different_images() -> None:
    stream = make_stream(make_split())
    orders = [epoch_labels(stream, epoch) for epoch in range(5)]
    assert len({tuple(order) for order in orders}) == 5
    assert len({frozenset(order) for order in orders}) > 1


def test_images_are_picked_with_their_labels_and_normalised() -> None:
    split = make_split()
    batch = make_stream(split).batch(1)
    torch.testing.assert_close(batch.inputs.double(), normalised(split.images[batch.labels]), rtol=1e-5, atol=1e-5)


def test_statistics_of_the_split_give_mean_zero_and_variance_one() -> None:
    split = make_split(50)
    mean, std = channel_statistics(split.images)
    batch = BatchStream(split, batch_size=50, seed=0, mean=mean, std=std, dtype=torch.float64).batch(0)
    torch.testing.assert_close(batch.inputs.mean((0, 2, 3)), torch.zeros(3, dtype=torch.float64), rtol=0, atol=1e-12)
    torch.testing.assert_close(batch.inputs.var((0, 2, 3), correction=0), torch.ones(3, dtype=torch.float64), rtol=1e-12, atol=0)


def test_padding_is_the_mean_colour_exactly() -> None:
    split = ImageSplit(images=torch.full((8, 3, 4, 4), 255, dtype=torch.uint8), labels=torch.arange(8))
    values = make_stream(split, batch_size=8, augmentation=Augmentation()).batch(0).inputs[:, 0]
    padding, colour = sorted(set(values.flatten().tolist()))
    assert padding == 0
    assert colour == pytest.approx(2.5)  # (1 - .5) / .2


def test_augmented_batches_hold_the_same_images_as_plain_ones_but_varied() -> None:
    split = make_split()
    plain, varied = make_stream(split).batch(3), make_stream(split, augmentation=Augmentation()).batch(3)
    assert torch.equal(plain.labels, varied.labels)
    assert not torch.equal(plain.inputs, varied.inputs)


def test_same_image_is_varied_anew_at_each_step() -> None:
    one = make_split(1, (3, 16, 16))
    split = ImageSplit(images=one.images.repeat(5, 1, 1, 1), labels=one.labels.repeat(5))
    stream = make_stream(split, batch_size=1, augmentation=Augmentation())
    for epoch in range(3):
        steps = range(5 * epoch, 5 * epoch + 5)
        assert len({stream.batch(step).inputs.numpy().tobytes() for step in steps}) > 1
    assert len({stream.batch(step).inputs.numpy().tobytes() for step in range(15)}) > 10


def test_without_augmentation_no_pixel_is_varied() -> None:
    split = make_split()
    stream = make_stream(split)
    for step in range(2 * stream.num_batches):
        batch = stream.batch(step)
        torch.testing.assert_close(batch.inputs.double(), normalised(split.images[batch.labels]), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
def test_whole_yields_every_image_once_in_order_unaugmented(augmentation: Augmentation | None) -> None:
    split = make_split()
    batches = list(make_stream(split, augmentation=augmentation).whole(10))
    assert [len(batch.labels) for batch in batches] == [10, 10, 3]
    assert torch.equal(torch.cat([batch.labels for batch in batches]), split.labels)
    images = torch.cat([batch.inputs for batch in batches])
    torch.testing.assert_close(images.double(), normalised(split.images), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("augmentation", [None, Augmentation()])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_batches_have_the_dtype_and_memory_format_asked_for(
    dtype: torch.dtype, memory_format: torch.memory_format, augmentation: Augmentation | None
) -> None:
    stream = BatchStream(
        make_split(),
        batch_size=5,
        seed=0,
        mean=MEAN,
        std=STD,
        augmentation=augmentation,
        dtype=dtype,
        memory_format=memory_format,
    )
    for batch in (stream.batch(0), next(stream.whole(4))):
        assert batch.inputs.dtype == dtype
        assert batch.inputs.is_contiguous(memory_format=memory_format)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_device_changes_neither_the_images_picked_nor_how_they_are_varied() -> None:
    split = make_split()
    arguments = {"batch_size": 5, "seed": 0, "mean": MEAN, "std": STD, "augmentation": Augmentation(cutout=3)}
    here, there = (BatchStream(split, device=device, **arguments).batch(7) for device in ("cpu", "cuda"))  # type: ignore[arg-type]
    assert torch.equal(here.labels, there.labels.cpu())
    torch.testing.assert_close(here.inputs, there.inputs.cpu(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 96, 96), (5, 7, 3)])
def test_any_image_shape_works(shape: tuple[int, int, int]) -> None:
    channels = shape[0]
    stream = BatchStream(
        make_split(6, shape),
        batch_size=4,
        seed=0,
        mean=[0.5] * channels,
        std=[0.2] * channels,
        augmentation=Augmentation(cutout=2),
    )
    assert stream.batch(0).inputs.shape == (4, *shape)


def test_making_batches_leaves_the_split_and_the_global_generator_alone() -> None:
    split = make_split()
    before, state = split.images.clone(), torch.get_rng_state()
    stream = make_stream(split, augmentation=Augmentation(cutout=2))
    stream.batch(0)
    list(stream.whole(7))
    assert torch.equal(split.images, before)
    assert torch.equal(torch.get_rng_state(), state)


def test_order_of_an_epoch_comes_from_the_documented_seed() -> None:
    """A resumed run counts on it: change the seeding only together with the checkpoint format."""
    seed = np.random.SeedSequence(5, spawn_key=(0, 3)).generate_state(1, np.uint64)[0]
    expected = torch.randperm(7, generator=torch.Generator().manual_seed(int(seed)))
    assert epoch_labels(make_stream(make_split(7), batch_size=7, seed=5), 3) == expected.tolist()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 24}, "batch_size: expected 1 to 23, the number of images, got 24"),
        ({"batch_size": 0}, "batch_size: expected 1 to 23, the number of images, got 0"),
        ({"seed": -1}, "seed: expected at least 0, got -1"),
    ],
)
def test_wrong_arguments_are_refused(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_stream(make_split(), **arguments)  # type: ignore[arg-type]


def test_statistics_of_another_number_of_channels_are_refused() -> None:
    with pytest.raises(ValueError, match="expected mean and std of 1 channels, got 3 and 3"):
        make_stream(make_split(shape=(1, 8, 8)))


def test_negative_step_and_empty_chunks_are_refused() -> None:
    stream = make_stream(make_split())
    with pytest.raises(ValueError, match="step: expected at least 0, got -1"):
        stream.batch(-1)
    with pytest.raises(ValueError, match="batch_size: expected at least 1, got 0"):
        stream.whole(0)
