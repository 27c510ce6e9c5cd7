"""How many bytes of tensors a piece of work holds at its peak, over what was there before.

On CUDA the allocator counts. Elsewhere a dispatch mode sees every operation, of the backward pass too, and follows each new
storage until it is freed. Not covered there: buffers inside a kernel, such as oneDNN's, and tensors that no operation returned.
What existed before counts as nothing, whether it is freed meanwhile or not. Python's garbage collector is off: tensors that only
a reference cycle keeps alive count until the end.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from enas.measure import no_collection


def memory_peak(work: Callable[[], object], device: torch.device) -> int:
    """Run some work and return its peak in bytes; deterministic but for what the work itself leaves to chance."""
    with no_collection():
        if device.type == "cuda":
            return _allocator_peak(work, device)
        alive = _AliveBytes()
        with alive:
            work()
        return alive.peak


def _allocator_peak(work: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    work()
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device)) - int(before)


class _AliveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of storages that operations return.

    Attributes:
        now, peak: bytes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.peak = 0
        self._met: set[int] = set()  # identities of the storages alive that an operation took or returned

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run one operation."""
        kwargs = kwargs or {}
        self._meet(tree_leaves((args, kwargs)), are_new=False)
        result = func(*args, **kwargs)
        self._meet(tree_leaves(result), are_new=True)
        return result

    def _meet(self, values: Iterable[Any], *, are_new: bool) -> None:
        for value in values:
            if not isinstance(value, Tensor):
                continue
            storage = value.untyped_storage()  # one Python object as long as the storage lives
            if id(storage) in self._met:
                continue
            size = storage.nbytes() if are_new else 0
            self._met.add(id(storage))
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._forget, id(storage), size).atexit = False

    def _forget(self, identity: int, size: int) -> None:
        self._met.discard(identity)
        self.now -= size
