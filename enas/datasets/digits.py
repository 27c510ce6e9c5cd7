"""The 1,797 real 8x8 grey digits that come with scikit-learn: a data set that needs no download.

Neighbours in the file come from one writer, so it is shuffled once, by a constant that has nothing to do with a run's seed.
Its default split is 1,097 training, 350 validation and 350 test images, each with the classes in proportion.
Departs from the file: grey levels 0..16 are spread over 0..255.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from enas.datasets.source import RawImages
from enas.datasets.splits import split_valid

SHUFFLE_SEED = 88
NUM_TEST = 350


def read_digits(data_dir: Path) -> RawImages:
    """Read the digits, in their fixed shuffled order; `data_dir` is not looked at.

    Returns: 1,447 images to train and validate on, 350 to test on; uint8 (N, 1, 8, 8).
    """
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(SHUFFLE_SEED).permutation(len(bunch.target))
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[order, None]  # (1797, 1, 8, 8)
    labels = bunch.target.astype(np.int64)[order]
    rest, test = split_valid(labels, NUM_TEST, rule="stratified")
    return RawImages(
        train_images=images[rest],
        train_labels=labels[rest],
        test_images=images[test],
        test_labels=labels[test],
        num_classes=10,
    )
