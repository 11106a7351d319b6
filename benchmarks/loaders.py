"""Windows for training: delivered by ours, by what others use, and by the limit.

Each contender is an endless stream of batches of the same windows, shuffled in its own way and
made as its own guides show.
"""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
import torch
import webdataset as wds
from delivered import Values, Windows
from numpy import ndarray
from torch import Tensor
from torch.utils.data import DataLoader
from torch_brain.batching import collate, pad2d
from torch_brain.data import Data, Interval, RegularTimeSeries
from torch_brain.datasets import Dataset, DatasetIndex
from torch_brain.samplers import RandomFixedWindowSampler

from neurofmx.batches import Batch
from neurofmx.data import store
from neurofmx.data.inputs import Sampled, read_input
from neurofmx.data.loader import Collator, Loader
from neurofmx.data.mixture import Phase
from neurofmx.data.plan import Plan
from neurofmx.stages import base

BATCH = 64  # windows
ENDLESS = 10_000  # epochs
BUFFER = 1000  # windows among which webdataset shuffles

# What a batch of each comes with. Peers were asked for no more than the samples of the inputs.
COLUMNS = ("targets", "normalised", "gaps and padding masked", "bytes checked", "resumes exactly")
COMES_WITH = {
    "neurofmx": (True, True, True, True, True),
    "torch_brain": (False, False, False, False, False),
    "webdataset": (True, False, False, False, False),
    "numpy mmap": (False, False, False, False, False),
}


def neurofmx(windows: Windows, workers: int) -> Iterator[Batch]:
    """Ours, with all that training needs."""
    plan = Plan(windows.shards, windows.positions, 0, [Phase(epochs=ENDLESS)], BATCH)
    yield from Loader(plan, Collator(windows.shards, _rows), workers=workers)


def _rows(
    signal: str, keys: Sequence[tuple[str, int]], regions: Sequence[str]
) -> tuple[list[int], list[int]]:
    return [channel + 1 for _, channel in keys], [0] * len(regions)


def write_bare(windows: Windows, folder: Path) -> None:
    """A .npy of each recording and array, windows one behind the other; samples as float32."""
    for recording, rows in windows.by_recording():
        samples = [windows.shards[int(p)].arrays for p in rows]
        for name in windows.inputs + windows.targets:
            arrays = [arrays[name] for arrays in samples]
            whole = np.concatenate(arrays)
            whole = whole.astype(np.float32) if name in windows.inputs else whole
            np.save(folder / f"{recording}.{name}.npy", whole)
            np.save(folder / f"{recording}.{name}.ends.npy", np.cumsum(list(map(len, arrays))))


def bare(windows: Windows, folder: Path, targets: bool) -> Iterator[Values]:
    """The limit: slices of memory maps, stacked.

    Args:
        targets: With what tasks ask, as ours has it.
    """
    rng = np.random.default_rng(0)
    arrays: dict[str, list[tuple[ndarray, int, int]]] = {}
    for name in windows.inputs + (windows.targets if targets else []):
        places = arrays[name] = []
        for recording, _ in windows.by_recording():
            mapped = np.load(folder / f"{recording}.{name}.npy", mmap_mode="r")
            ends = np.load(folder / f"{recording}.{name}.ends.npy").tolist()
            places += [(mapped, a, b) for a, b in itertools.pairwise([0, *ends])]
    while True:
        order = rng.permutation(len(windows))
        for first in range(0, len(order), BATCH):
            chosen = order[first : first + BATCH].tolist()
            yield {
                name: _stacked([whole[a:b] for whole, a, b in (places[k] for k in chosen)])
                for name, places in arrays.items()
            }


def _stacked(arrays: list[ndarray]) -> Tensor:
    if len({array.shape for array in arrays}) == 1:
        return torch.from_numpy(np.stack(arrays))
    shape = np.max([array.shape for array in arrays], axis=0)
    stacked = np.zeros((len(arrays), *shape), arrays[0].dtype)
    for row, array in zip(stacked, arrays, strict=True):
        row[tuple(map(slice, array.shape))] = array
    return torch.from_numpy(stacked)


def write_torch_brain(windows: Windows, folder: Path) -> None:
    """Each aligned recording as `Data` in HDF5, its samples in the types that the shards have."""
    card = windows.card
    for recording, starts in windows.starts.items():
        aligned = store.read_aligned(base.STORAGE / "align" / f"{recording}.zarr")
        first, last = starts.min(), starts.max() + windows.length
        series = {}
        for name, spec in card.inputs.items():
            signal = aligned.signals[name]
            found = read_input(signal, spec, card.windows.bin_width, first, last)
            assert isinstance(found, Sampled), "these data sets have no events as inputs"
            series[name] = RegularTimeSeries(
                values=found.values, sampling_rate=1 / found.dt, domain_start=float(first)
            )
        with h5py.File(folder / f"{recording}.h5", "w") as file:
            Data(**series, domain=Interval(float(first), float(last))).to_hdf5(file)


def torch_brain(windows: Windows, folder: Path, workers: int) -> Iterator[Values]:
    """`Dataset`, `RandomFixedWindowSampler` and `collate`; the sampler has drawn beforehand."""
    table = windows.shards.channels.groupby("signal")
    ragged = {name: rows.groupby("recording").size().nunique() > 1 for name, rows in table}

    def inputs(data: Data) -> dict:
        values = {n: getattr(data, n).values.astype(np.float32) for n in windows.shards.signals}
        return {f"{n}.values": pad2d(x) if ragged[n] else x for n, x in values.items()}

    # Each interval holds one window, so that it draws ours. It compares sums of times, and a
    # picosecond less than their length allows for their rounding.
    intervals = {
        r: Interval(starts, starts + windows.length) for r, starts in windows.starts.items()
    }
    sampler = RandomFixedWindowSampler(
        sampling_intervals=intervals, window_length=windows.length - 1e-12
    )
    yield from DataLoader(
        Dataset(folder, list(windows.starts), transform=inputs),
        BATCH,
        sampler=_Again(list(sampler)),
        collate_fn=collate,
        num_workers=workers,
    )


@dataclass(frozen=True)
class _Again:
    """An order without end."""

    indices: list[DatasetIndex]

    def __iter__(self) -> Iterator[DatasetIndex]:
        while True:
            yield from self.indices


def webdataset(windows: Windows, workers: int) -> Iterator[Values]:
    """The shards themselves, through stock `webdataset`."""
    folder = base.STORAGE / "tokenize"
    urls = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    keys = set(windows.shards.keys(windows.positions))

    def inputs(sample: dict) -> dict:
        return {name: sample[f"{name}.npy"].astype(np.float32) for name in windows.inputs}

    def join(samples: list[dict]) -> Values:
        return {name: _stacked([sample[name] for sample in samples]) for name in windows.inputs}

    dataset = (
        wds.WebDataset(urls, shardshuffle=len(urls))
        .shuffle(BUFFER)
        .select(lambda sample: sample["__key__"] in keys)
        .decode()
        .map(inputs)
        .batched(BATCH, collation_fn=join)
        .repeat()
    )
    yield from wds.WebLoader(dataset, batch_size=None, num_workers=workers)
