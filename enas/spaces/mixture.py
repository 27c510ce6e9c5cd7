"""What spaces whose networks run mixtures share: the check of a mixture's weights before they name an architecture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from enas.spaces.base import MixedOperation
from enas.types import FloatArray


def check_weights(space: str, mixed_operations: Sequence[MixedOperation], weights: FloatArray) -> FloatArray:
    """Return weights as an array (R, K). Raises ValueError for another shape, or for numbers that are not finite.

    Args: space: its name, for the message.
    """
    values = np.asarray(weights, dtype=np.float64)
    expected = (len(mixed_operations), len(mixed_operations[0].choices))
    if values.shape != expected:
        raise ValueError(f"{space}: expected weights {expected} of its mixed operations, got {values.shape}")
    if not np.isfinite(values).all():
        place = mixed_operations[int((~np.isfinite(values)).any(axis=1).argmax())].name
        raise ValueError(f"{space}: expected finite weights, got others at {place}")
    return values
