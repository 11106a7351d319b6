"""Embeddings of units and channels: a vocabulary that grows, and what a place says of a new one.

Each row (owner, channel) of the vocabulary has a gain g and a bias b. Row 0 stands for every
unit that is not in it. A unit's region and position add to both,

    (g, b) = E[row] + R[region] + W · f(x, y, z)

with f sines and cosines of the position, so that a recording never seen is not blind: units of a
known region behave as that region's. R and W start at zero.

Source: unit embeddings, Azabou et al. 2023 (POYO), arXiv:2310.16046; Fourier features of
positions, Tancik et al. 2020, arXiv:2006.10739.
"""

import json
import math
from collections.abc import Iterable

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Key = tuple[str, int]  # owner (a recording, or what several share), channel
GAIN, BIAS = 0.1, 0.02  # sizes of embeddings before training
NEW = 0.1  # times that: of new units in a model that is trained, which would make much of noise
WAVES = 8  # per axis
LONGEST, SHORTEST = 32e-3, 250e-6  # m: a large brain, a cortical column


class Units(nn.Module):
    """The vocabulary of one signal; it is kept in the state dict, and loading one brings its own.

    Growing and choosing make new parameters: build the optimiser afterwards.

    Args:
        width: Features of an embedding.
        keys: Units of rows 1, 2, …
        regions: Names of brain regions of rows 1, 2, …
    """

    def __init__(self, width: int, keys: Iterable[Key] = (), regions: Iterable[str] = ()):
        super().__init__()
        self.width = width
        self.gain, self.bias = nn.Embedding(1, width), nn.Embedding(1, width)
        self.region = nn.Embedding(1, 2 * width, padding_idx=0)  # no region is zeros, and stays so
        self.place = nn.Linear(6 * WAVES, 2 * width, bias=False)
        self.names: Tensor
        self._keys: dict[Key, int] = {}
        self._regions: dict[str, int] = {}
        # Small, so that what is learned soon outweighs the first random projection.
        nn.init.normal_(self.gain.weight, std=GAIN)
        nn.init.normal_(self.bias.weight, std=BIAS)
        nn.init.zeros_(self.region.weight)
        nn.init.zeros_(self.place.weight)
        self._name({}, {})
        self.extend(keys, regions)

    def __len__(self) -> int:
        """Units, without row 0."""
        return len(self._keys)

    @property
    def keys(self) -> list[Key]:
        """Units in the order of their rows, from row 1."""
        return list(self._keys)

    @property
    def regions(self) -> list[str]:
        """Regions in the order of their rows, from row 1."""
        return list(self._regions)

    def rows(self, keys: Iterable[Key], regions: Iterable[str] = ()) -> tuple[list[int], list[int]]:
        """Rows of channels and of their regions; 0 for what is not known."""
        ids = [self._keys.get(key, 0) for key in keys]
        return ids, [self._regions.get(region, 0) for region in regions]

    def extend(self, keys: Iterable[Key], regions: Iterable[str] = (), size: float = 1.0) -> None:
        """Add units and regions; those already known keep their embeddings.

        Args:
            size: Of new embeddings: 1 before training, `NEW` in a model that is trained.
        """
        new = [key for key in dict.fromkeys(keys) if key not in self._keys]
        places = [name for name in dict.fromkeys(regions) if name and name not in self._regions]
        _grow(self.gain, size * GAIN * torch.randn(len(new), self.width))
        _grow(self.bias, size * BIAS * torch.randn(len(new), self.width))
        _grow(self.region, torch.zeros(len(places), 2 * self.width))
        self._name(_numbered([*self._keys, *new]), _numbered([*self._regions, *places]))

    def subset(self, keys: Iterable[Key]) -> None:
        """Keep row 0 and the rows of these units, in this order.

        Raises:
            KeyError: One of them is not in the vocabulary.
        """
        keys = list(keys)
        unknown = [key for key in keys if key not in self._keys]
        if unknown:
            raise KeyError(
                f"unit {unknown[0]} and {len(unknown) - 1} more are not in the vocabulary of "
                f"{len(self)} units; extend it first"
            )
        kept = [0, *(self._keys[key] for key in keys)]
        for table in (self.gain, self.bias):
            _replace(table, table.weight.detach()[kept])
        self._name(_numbered(keys), self._regions)

    def forward(
        self,
        ids: Int[Tensor, "batch channel"],
        regions: Int[Tensor, "batch channel"] | None = None,
        positions: Float[Tensor, "batch channel 3"] | None = None,
    ) -> tuple[Float[Tensor, "batch channel width"], Float[Tensor, "batch channel width"]]:
        """Gain and bias of channels.

        Args:
            ids: Rows of the vocabulary.
            regions: Rows of the regions; None or 0 where unknown.
            positions: x, y, z (m); None or NaN where unknown.
        """
        gain, bias = self.gain(ids), self.bias(ids)
        places = []
        if regions is not None:
            places.append(self.region(regions))
        if positions is not None:
            places.append(self.place(waves(positions).to(gain.dtype)))
        for place in places:
            more_gain, more_bias = place.chunk(2, dim=-1)
            gain, bias = gain + more_gain, bias + more_bias
        return gain, bias

    def _name(self, keys: dict[Key, int], regions: dict[str, int]) -> None:
        self._keys, self._regions = keys, regions
        text = json.dumps({"keys": list(keys), "regions": list(regions)}).encode()
        # Bytes as a tensor, since safetensors holds nothing else.
        names = torch.frombuffer(bytearray(text), dtype=torch.uint8)
        self.register_buffer("names", names.to(self.gain.weight.device))

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        names = state_dict.get(f"{prefix}names")
        if names is not None:
            found = json.loads(bytes(names.cpu().numpy()))
            for name in ("gain", "bias", "region"):
                weight, table = state_dict[f"{prefix}{name}.weight"], getattr(self, name)
                if weight.shape != table.weight.shape:  # else an optimiser may hold the old one
                    _replace(table, table.weight.new_zeros(weight.shape))
            self._name(_numbered(map(tuple, found["keys"])), _numbered(found["regions"]))
        super()._load_from_state_dict(state_dict, prefix, *args)


class Places(Units):
    """Embeddings of places that every recording shares: tiles of a picture, say.

    No recording brings places of its own or takes some away; regions can be added.
    """

    def __init__(self, width: int, n_places: int):
        super().__init__(width)
        Units.extend(self, [("", place) for place in range(n_places)])

    def extend(self, keys: Iterable[Key], regions: Iterable[str] = (), size: float = 1.0) -> None:
        """Add regions; places stay as they are."""
        super().extend((), regions)

    def subset(self, keys: Iterable[Key]) -> None:
        """Places stay as they are."""


def waves(positions: Float[Tensor, "*batch 3"]) -> Float[Tensor, "*batch wave"]:
    """Sines and cosines of a position (m) at wavelengths from a brain to a column; 0 for NaN."""
    known = positions.isfinite().all(-1, keepdim=True)
    positions = positions.masked_fill(~known, 0.0)
    lengths = torch.logspace(
        math.log10(LONGEST), math.log10(SHORTEST), WAVES, device=positions.device
    )
    angle = (2 * math.pi * positions[..., None] / lengths).flatten(-2)
    return torch.cat([angle.sin(), angle.cos()], dim=-1) * known


def _numbered(names: Iterable) -> dict:
    return {name: row for row, name in enumerate(names, start=1)}


def _grow(table: nn.Embedding, rows: Float[Tensor, "row width"]) -> None:
    if len(rows):
        _replace(table, torch.cat([table.weight.detach(), rows.to(table.weight)]))


def _replace(table: nn.Embedding, weight: Float[Tensor, "row width"]) -> None:
    table.weight = nn.Parameter(weight, requires_grad=table.weight.requires_grad)
    table.num_embeddings = len(weight)
