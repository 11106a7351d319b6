"""Batches on their way between processes: each whole, however many tensors it has.

torch hands over every tensor as a file descriptor, which takes longer than reading a small batch
does. Here a batch is one pickle: with the bytes of its tensors in it where they are few, else with
them in one piece of shared memory, which is not copied on the way.
"""

import copyreg
import io
import pickle
from typing import Any

import numpy as np
import torch
from torch import Tensor

SHARED = 2**20  # bytes from which a pipe takes longer than fresh pages of shared memory
ALIGNED = 64  # bytes; tensors begin at a multiple


class _Pickler(pickle.Pickler):
    """Tensors as arrays, whose bytes pickle can leave out."""

    dispatch_table = copyreg.dispatch_table | {
        Tensor: lambda tensor: (torch.from_numpy, (tensor.numpy(),))
    }


class Parcel:
    """Something that holds tensors, such as a batch, to be sent to another process.

    It is a pickle, as all that multiprocessing sends: it goes from a run's own workers to the run,
    and never to a file.

    Args:
        content: Whatever can be pickled; its tensors are on the CPU.
    """

    def __init__(self, content: Any):
        file, buffers = io.BytesIO(), list[pickle.PickleBuffer]()
        _Pickler(file, 5, buffer_callback=buffers.append).dump(content)
        self.head, raw = file.getvalue(), [buffer.raw() for buffer in buffers]
        ends = np.cumsum([-(-len(one) // ALIGNED) * ALIGNED for one in raw], dtype=int).tolist()
        self.places = [
            slice(start, start + len(one)) for start, one in zip([0, *ends], raw, strict=False)
        ]
        self.content: bytearray | Tensor = bytearray(ends[-1] if raw else 0)
        if len(self.content) >= SHARED:
            # As torch's collate does; `share_memory_` would copy what is not yet there.
            storage = torch.UntypedStorage._new_shared(ends[-1], device="cpu")
            self.content = torch.empty(0, dtype=torch.uint8).set_(storage)
        for place, one in zip(self.places, raw, strict=True):
            self._bytes[place] = one

    def open(self) -> Any:
        """What was put in; its tensors are views of these bytes."""
        content = self._bytes
        return pickle.loads(self.head, buffers=[content[place] for place in self.places])

    @property
    def _bytes(self) -> memoryview:
        held = self.content
        return held.numpy().data if isinstance(held, Tensor) else memoryview(held)
