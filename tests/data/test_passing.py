"""What goes to another process arrives as it was, small or large."""

import pickle
from multiprocessing.reduction import ForkingPickler

import pytest
import torch

from neurofmx.data.passing import SHARED, Parcel


def sent(content):
    """Through the pickler of a queue between processes."""
    return pickle.loads(ForkingPickler.dumps(Parcel(content))).open()


@pytest.mark.parametrize("n", [0, 1, 1000, SHARED])
def test_tensors_arrive_bit_equal_and_can_be_written(n):
    values = torch.randn(n, 3, generator=torch.Generator().manual_seed(0))
    content = {
        "values": values,
        "mask": values > 0,
        "time": torch.arange(7.0, dtype=torch.float64),
        "turned": values.T,
        "one row again": values[:1].expand(min(n, 1) * 5, -1),
        "plain": ["a", 1.5, None],
    }
    came = sent(content)
    assert came.keys() == content.keys()
    assert came.pop("plain") == content.pop("plain")
    for name, tensor in content.items():
        assert came[name].dtype == tensor.dtype
        assert torch.equal(came[name], tensor)
    came["values"] += 1
    assert torch.equal(came["values"], values + 1)
    assert torch.equal(came["mask"], content["mask"])


def test_only_large_ones_take_shared_memory():
    assert isinstance(Parcel(torch.zeros(10)).content, bytearray)
    assert Parcel(torch.zeros(SHARED)).content.is_shared()
