"""The vocabulary of units: what is known stays, and a place tells of what is not."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from neurofmx.batches import SignalBatch
from neurofmx.tokenizers import BinnedTokenizer, Units
from neurofmx.tokenizers.units import Places, waves

A, B, C = ("a", 0), ("a", 1), ("b", 0)


def ids(*rows: int) -> torch.Tensor:
    return torch.tensor([rows])


def row(units: Units, key) -> torch.Tensor:
    (found,), _ = units.rows([key])
    return torch.cat(units(ids(found)), dim=-1)[0, 0]


def test_known_units_keep_their_embeddings_and_new_ones_get_their_own():
    units = Units(4, [A, B])
    before = [row(units, key) for key in (A, B)]
    units.extend([B, C, A, C])  # two of them known, one twice
    assert units.keys == [A, B, C]
    assert len(units) == 3
    assert all(torch.equal(row(units, k), x) for k, x in zip((A, B), before, strict=True))
    assert not torch.equal(row(units, C), before[0])
    assert units.gain.weight.shape == (4, 4)  # row 0 is of what is unknown


def test_an_unknown_unit_is_row_0():
    units = Units(4, [A, B], ["CA1"])
    assert units.rows([("a", 0), ("a", 1), ("a", 7)], ["", "CA1", "V1"]) == ([1, 2, 0], [0, 1, 0])
    assert units.rows([("never seen", 0), ("never seen", 1)]) == ([0, 0], [])


def test_a_subset_keeps_its_units_in_its_order():
    units = Units(4, [A, B, C], ["CA1"])
    kept, unknown = [row(units, key) for key in (C, A)], units.gain.weight[0].clone()
    units.subset([C, A])
    assert units.keys == [C, A]
    assert units.rows([("a", 0), ("a", 1)], ["CA1"]) == ([2, 0], [1])  # regions stay
    assert all(torch.equal(row(units, k), x) for k, x in zip((C, A), kept, strict=True))
    assert torch.equal(units.gain.weight[0], unknown)
    with pytest.raises(KeyError, match=r"unit \('a', 1\) and 0 more are not in the vocabulary"):
        units.subset([B])


def test_growing_keeps_what_is_frozen_frozen():
    units = Units(4, [A])
    units.gain.weight.requires_grad = False
    units.extend([B], ["CA1"])
    assert not units.gain.weight.requires_grad
    assert units.region.weight.requires_grad


def test_a_file_brings_its_own_vocabulary(tmp_path):
    units = Units(4, [A, ("β", 3)], ["CA1", "S1 – barrel"])
    save_file(units.state_dict(), tmp_path / "units.safetensors")
    other = Units(4, [("x", k) for k in range(9)])
    other.load_state_dict(load_file(tmp_path / "units.safetensors"))
    assert other.keys == [A, ("β", 3)]
    assert other.regions == ["CA1", "S1 – barrel"]
    assert torch.equal(row(other, ("β", 3)), row(units, ("β", 3)))


def test_loading_the_same_vocabulary_keeps_the_parameters_of_an_optimiser():
    units = Units(4, [A, B])
    held = list(units.parameters())
    units.load_state_dict({k: v.clone() for k, v in units.state_dict().items()})
    assert all(a is b for a, b in zip(units.parameters(), held, strict=True))


def test_regions_grow():
    units = Units(4, [A], ["CA1"])
    with torch.no_grad():
        units.region.weight[1] = 1.0
    units.extend([], ["CA3", "CA1", ""])
    assert units.regions == ["CA1", "CA3"]
    assert units.region.weight[1].eq(1.0).all()
    assert units.region.weight[2].eq(0.0).all()  # new ones say nothing yet


def test_until_they_are_trained_places_say_nothing():
    units = Units(4, [A], ["CA1"])
    plain = units(ids(0, 1))
    placed = units(ids(0, 1), ids(1, 0), torch.rand(1, 2, 3))
    assert all(torch.equal(a, b) for a, b in zip(plain, placed, strict=True))


def test_an_unknown_region_or_position_adds_nothing():
    units = Units(4, [A], ["CA1"])
    torch.nn.init.normal_(units.region.weight[1:])
    torch.nn.init.normal_(units.place.weight)
    plain = units(ids(1))
    nowhere = torch.tensor([[[0.01, float("nan"), float("inf")]]])  # half a position is none
    for a, b in zip(plain, units(ids(1), ids(0), nowhere), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)
    gain, _ = units(ids(1), ids(1), torch.zeros(1, 1, 3))  # the origin is a place
    assert not torch.allclose(gain, plain[0])


def test_positions_are_told_apart_from_a_brain_to_a_column():
    near = waves(torch.tensor([[0.0, 0.0, 0.0], [0.0, 0.0, 1e-4], [0.0, 0.0, 1e-2]]))
    assert (near[0] - near[1]).norm() > 0.5
    assert (near[0] - near[2]).norm() > 0.5


def test_places_belong_to_no_recording():
    places = Places(4, 6)
    before = places.gain.weight.clone()
    places.extend([A, B], ["CA1"])
    places.subset([])
    assert len(places) == 6
    assert torch.equal(places.gain.weight, before)
    assert places.rows([("a", 0), ("a", 1)], ["CA1"]) == ([0, 0], [1])


def test_a_unit_never_seen_is_read_by_its_region():
    """Units of region 1 fire for the answer +1, those of region 2 for −1; only some are trained."""
    torch.manual_seed(0)
    tokenizer = BinnedTokenizer(BinnedTokenizer.Config(width=16, n_channels=20))
    tokenizer.units.extend([], ["excited", "silenced"])
    readout = torch.nn.Linear(16, 1)
    region = (torch.arange(20) % 2 + 1).expand(64, -1)
    known = torch.arange(1, 21).expand(64, -1)

    def answer(ids, truth):
        noise = 0.5 * torch.randn(64, 1, 20)
        signal = truth[:, None, None] * torch.where(region == 1, 1.0, -1.0)[:, None] + noise
        tokens = tokenizer.tokenize(
            SignalBatch(
                values=signal,
                t0=torch.zeros(64).double(),
                dt=0.02,
                mask=torch.ones(64, 1, dtype=torch.bool),
                channel_ids=ids,
                channel_mask=torch.ones(64, 20, dtype=torch.bool),
                regions=region,
            )
        ).tokens
        return readout(tokens)[:, 0, 0]

    parameters = [*tokenizer.parameters(), *readout.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=0.01)
    for _ in range(100):
        truth = torch.randint(0, 2, (64,)) * 2.0 - 1
        # Some of the known ones are shown as unknown, or nothing would be left for the region.
        ids = torch.where(torch.rand(64, 20) < 0.5, 0, known)
        loss = (answer(ids, truth) - truth).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    truth = torch.randint(0, 2, (64,)) * 2.0 - 1
    unseen = answer(torch.zeros_like(known), truth)
    assert (unseen.sign() == truth).float().mean() > 0.95
