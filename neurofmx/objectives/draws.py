"""Random numbers of each window, by (its seed, what is drawn, place) alone.

What is hidden from a window, or the noise that is added to it, depends neither on its neighbours in
the batch nor on padding, rank or device, so that runs on any number of processes take the same
steps. The number at a place is a hash of the place: nothing has to be drawn before it.

Source: counter-based generators, Salmon et al. 2011, doi:10.1145/2063384.2063405; the hash is the
finaliser of SplitMix64, Steele et al. 2014, doi:10.1145/2660193.2660195.
"""

import math
import zlib

import torch
from jaxtyping import Float, Int
from torch import Tensor

_GOLDEN, _FIRST, _SECOND = (
    c - 2**64 for c in (0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB)
)  # as int64, whose products are those of uint64


class Draws:
    """A stream of random numbers for each thing that a window draws.

    Args:
        seeds: One of each window; numbers come on their device.
    """

    def __init__(self, seeds: Int[Tensor, " batch"]):
        self.seeds = seeds

    def __len__(self) -> int:
        return len(self.seeds)

    def uniform(self, what: str, *shape: int) -> Float[Tensor, "batch ..."]:
        """Numbers in [0, 1) of this shape for each window, as float64."""
        z = _mixed(_mixed(self.seeds) + zlib.crc32(what.encode()))
        for axis in shape:
            places = torch.arange(1, axis + 1, device=z.device)
            z = _mixed(z[..., None] + places * _GOLDEN)
        return _shifted(z, 11).double() * 2.0**-53

    def normal(self, what: str, *shape: int) -> Float[Tensor, "batch ..."]:
        """Numbers of N(0, 1) of this shape for each window, as float32."""
        u = self.uniform(what, *shape) + 2.0**-54  # never 0
        return (math.sqrt(2) * torch.erfinv(2 * u - 1)).float()

    def chosen(self, what: str, number: Int[Tensor, "*shape"]) -> Int[Tensor, "*shape"]:
        """A whole number below each of these, all alike likely; 0 below 0."""
        u = self.uniform(what, *number.shape[1:])
        return (u * number).long().clamp(max=(number - 1).clamp(min=0))


def _mixed(z: Int[Tensor, "*any"]) -> Int[Tensor, "*any"]:
    for shift, factor in ((30, _FIRST), (27, _SECOND)):
        z = (z ^ _shifted(z, shift)) * factor
    return z ^ _shifted(z, 31)


def _shifted(z: Int[Tensor, "*any"], bits: int) -> Int[Tensor, "*any"]:
    """To the right, as of an unsigned number."""
    return (z >> bits) & (2 ** (64 - bits) - 1)
