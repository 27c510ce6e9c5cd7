"""Random crop, flip and cutout of a whole batch at once (Pham et al. 2018, CIFAR; cutout: DeVries and Taylor 2017).

Works on normalised images, so that 0, the value of padding and of cut-out squares, is the mean colour. That is where the ENAS
authors pad, too (authors: src/cifar10/models.py). Departs from their cutout, which places the square's corner, not its centre,
uniformly in the image, so that it never reaches over the top or left border.
torch is imported inside the functions: the settings can be shown without waiting for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """How training images are varied.

    Attributes:
        pad: zero pixels added on each side before a crop of the original size is taken; 0: no crop.
        flip: whether half of the images are mirrored left to right.
        cutout: side in pixels of the square set to zero, clipped at the borders; 0: none.
    """

    pad: int = 4
    flip: bool = True
    cutout: int = 0

    def __post_init__(self) -> None:
        """Refuse negative sizes."""
        if self.pad < 0:
            raise ValueError(f"pad: expected at least 0 pixels, got {self.pad}")
        if self.cutout < 0:
            raise ValueError(f"cutout: expected at least 0 pixels, got {self.cutout}")


def draw_noise(num_images: int, image_size: tuple[int, int], augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Draw all that is random about a batch, in one order whatever is switched on: without cutout the crops are the same.

    Args:
        num_images: B.
        image_size: (H, W).
        augmentation: its `pad` bounds the crops.
        generator: on the CPU, so that the draws do not depend on the images' device.

    Returns: int64 (5, B) on the CPU: top and left of the crop in the padded image, 0..2 * pad; mirrored or not, 0 or 1;
        row and column of the cutout's centre, 0..H-1 and 0..W-1.
    """
    import torch

    num_crops = 2 * augmentation.pad + 1
    return torch.stack([torch.randint(n, (num_images,), generator=generator) for n in (num_crops, num_crops, 2, *image_size)])


def augment(images: Tensor, augmentation: Augmentation, generator: torch.Generator) -> Tensor:
    """Vary each image of a batch by draws of its own.

    Args:
        images: (B, C, H, W), any dtype, normalised so that 0 is the mean colour.
        augmentation: what to do.
        generator: on the CPU.

    Returns: (B, C, H, W) on the images' device, of their dtype; the images themselves where nothing is to be done.
    """
    import torch

    from enas.transfer import to_device

    if augmentation == Augmentation(pad=0, flip=False, cutout=0):
        return images
    noise = to_device(draw_noise(len(images), (images.shape[2], images.shape[3]), augmentation, generator), images.device)
    # one gather for the whole batch; what is cut out reads the padding's first pixel, so cutout needs a margin without a pad
    margin = max(augmentation.pad, 1) if augmentation.cutout else augmentation.pad
    padded = torch.nn.functional.pad(images, (margin, margin, margin, margin))  # (B, C, H + 2m, W + 2m)
    index = _pixels_to_read(images, augmentation, noise, margin)  # (B, H * W)
    return padded.flatten(2).gather(2, index.unsqueeze(1).expand(-1, images.shape[1], -1)).view(images.shape)


def _pixels_to_read(images: Tensor, augmentation: Augmentation, noise: Tensor, margin: int) -> Tensor:
    """Return for each pixel of the result which pixel it is of the flattened image with its margin, int64 (B, H * W)."""
    import torch

    height, width = images.shape[2:]
    y, x = torch.arange(height, device=images.device), torch.arange(width, device=images.device)
    top, left, mirrored, centre_row, centre_column = noise.unsqueeze(2).unbind()  # five of (B, 1)
    rows = y + top + (margin - augmentation.pad)  # (B, H)
    columns = torch.where(mirrored == 1, width - 1 - x, x) if augmentation.flip else x
    columns = columns + left + (margin - augmentation.pad)  # (B, W)
    index = rows.unsqueeze(2) * (width + 2 * margin) + columns.unsqueeze(1)  # (B, H, W)
    if augmentation.cutout:
        side = augmentation.cutout
        row_is_cut = _is_within(y, centre_row - side // 2, side)  # (B, H)
        column_is_cut = _is_within(x, centre_column - side // 2, side)  # (B, W)
        index.masked_fill_(row_is_cut.unsqueeze(2) & column_is_cut.unsqueeze(1), 0)
    return index.flatten(1)


def _is_within(positions: Tensor, start: Tensor, length: int) -> Tensor:
    return (positions >= start) & (positions < start + length)
