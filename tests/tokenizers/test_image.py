"""Tiles of pictures and volumes, and regions, by hand."""

import dataclasses

import pytest
import torch
from pydantic import ValidationError
from tokenized import samples

from neurofmx.batches import SignalBatch
from neurofmx.tokenizers import ImageTokenizer


def tokenizer(**options) -> ImageTokenizer:
    torch.manual_seed(0)
    return ImageTokenizer(ImageTokenizer.Config(**{"width": 8, "n_channels": 0} | options))


def frames(values: torch.Tensor, **changes) -> SignalBatch:
    """Time × space, one window."""
    values = values.flatten(1)[None]
    _, time, channels = values.shape
    made = SignalBatch(
        values=values,
        t0=torch.zeros(1).double(),
        dt=1.0,
        mask=torch.ones(1, time, dtype=torch.bool),
        channel_ids=torch.zeros(1, channels, dtype=torch.long),
        channel_mask=torch.ones(1, channels, dtype=torch.bool),
    )
    return dataclasses.replace(made, **changes)


def test_a_picture_is_cut_into_tiles_row_by_row():
    pixels = torch.arange(2 * 2 * 5.0).reshape(2, 2, 5)  # time, height, width
    cells = tokenizer(grid=[2, 5], tile=[2, 3], patch=2).cells(frames(pixels))
    assert cells.values.shape == (1, 1, 2, 12)
    left = [0, 1, 2, 5, 6, 7, 10, 11, 12, 15, 16, 17]  # frame 0, then frame 1
    right = [3, 4, 0, 8, 9, 0, 13, 14, 0, 18, 19, 0]  # a column beyond the edge
    assert cells.values[0, 0].tolist() == [left, right]
    assert cells.seen[0, 0].tolist() == [[True] * 12, [True, True, False] * 4]


def test_a_volume_is_cut_along_three_axes():
    voxels = torch.randn(3, 4, 6, 2)
    cells = tokenizer(grid=[4, 6, 2], tile=[2, 3, 2], patch=3).cells(frames(voxels))
    tiles = [
        voxels[:, x : x + 2, y : y + 3, z : z + 2].flatten()
        for x in (0, 2)
        for y in (0, 3)
        for z in (0,)
    ]
    assert torch.equal(cells.values[0, 0], torch.stack(tiles))


def test_tiles_take_the_usual_sides_unless_they_are_given():
    assert tokenizer(grid=[40, 10]).cell == 16 * 10  # no larger than the picture
    assert tokenizer(grid=[40, 40, 3], patch=2).cell == 2 * 4 * 4 * 3
    with pytest.raises(ValidationError, match=r"tile .16. has 1 sides, but the grid .4, 5. has 2"):
        ImageTokenizer.Config(grid=[4, 5], tile=[16])


def test_a_tile_is_known_by_its_place():
    """The same picture in the other corner is another token."""
    t = tokenizer(grid=[4, 4], tile=[2, 2])
    here, there = torch.zeros(2, 1, 1, 4, 4)
    here[0, 0, :2, :2] = there[0, 0, 2:, 2:] = 1.0
    assert not torch.allclose(t(here).tokens, t(there).tokens, atol=1e-3)
    assert len(t.units) == 4


def test_places_are_those_of_every_recording():
    t = tokenizer(grid=[4, 4], tile=[2, 2])
    before = t(torch.ones(1, 3, 4, 4)).tokens
    t.units.subset([])
    t.units.extend([("new", pixel) for pixel in range(16)])
    assert torch.equal(t(torch.ones(1, 3, 4, 4)).tokens, before)


def test_without_a_grid_each_channel_is_a_tile_with_its_own_row():
    t = tokenizer(n_channels=3)
    x = torch.randn(1, 1, 3)
    slow = (x[0, 0, :, None] * t.mixing * t.units.gain.weight[1:] + t.units.bias.weight[1:]).mean(0)
    torch.testing.assert_close(t(x).tokens[0, 0], slow)


def test_a_tubelet_is_described_by_a_few_numbers():
    t = tokenizer(grid=[8, 8], tile=[8, 8], patch=4, features=5)
    assert t.cell == 256
    assert t.n_features == 5
    assert t.describe(t.cells(frames(torch.randn(8, 8, 8)))).shape == (1, 2, 1, 5)
    assert tokenizer(patch=4).n_features == 4  # no more than there are samples


def test_channels_that_do_not_fill_the_grid_are_refused():
    with pytest.raises(ValueError, match=r"15 channels do not lie on a grid of \[4, 4\]"):
        tokenizer(grid=[4, 4])(torch.zeros(1, 2, 3, 5))


def test_regions_are_means_of_their_channels():
    t = tokenizer(by="region")
    t.units.extend([], ["V1", "V2", "V4"])
    made = frames(
        torch.tensor([[1.0, 3.0, 10.0, 7.0, float("nan")]]),
        regions=torch.tensor([[2, 2, 0, 1, 1]]),
        channel_mask=torch.tensor([[True, True, True, True, False]]),
    )
    cells = t.cells(made)
    # Unknown, V1, V2 and V4, of which there is nothing.
    assert cells.values[0, 0].flatten().tolist() == [10.0, 7.0, 2.0, 0.0]
    assert cells.seen[0, 0].flatten().tolist() == [True, True, True, False]


def test_a_region_is_known_by_its_name_in_every_recording():
    t = tokenizer(by="region")
    t.units.extend([("a", 0), ("a", 1)], ["V1", "V2"])
    torch.nn.init.normal_(t.units.region.weight)
    made = frames(torch.randn(2, 4), regions=torch.tensor([[1, 2, 1, 2]]))
    swapped = dataclasses.replace(made, regions=3 - made.regions)
    renamed = dataclasses.replace(made, channel_ids=torch.tensor([[1, 2, 0, 1]]))
    before = t.tokenize(made).tokens
    assert torch.equal(t.tokenize(renamed).tokens, before)
    assert not torch.allclose(t.tokenize(swapped).tokens, before, atol=1e-3)
    with pytest.raises(ValueError, match="cells by region need the region of each channel"):
        t.tokenize(samples(regions=None))
