"""The contract of everything that is computed where it is sliced."""

import pickle
from fractions import Fraction

import numpy as np
import pytest

from neurofmx.signal.bins import SummedBins
from neurofmx.signal.interpolate import METHODS, Interpolated
from neurofmx.signal.resample import Resampled
from neurofmx.signal.rows import finite_rows, stretches

N = 3000
RATIOS = [Fraction(1, 4), Fraction(1, 10), Fraction(2, 5), Fraction(3, 2), Fraction(160, 441)]


class OnDisk:
    """Rows that can be read in order and no other way, as from HDF5; counts what is read."""

    def __init__(self, array):
        self.array, self.shape, self.dtype, self.most = array, array.shape, array.dtype, 0

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        assert rows.step is None
        assert 0 <= rows.start < rows.stop <= len(self.array)
        self.most = max(self.most, rows.stop - rows.start)
        return self.array[rows]


def source(seed, dtype, channels=3):
    """A signal with gaps, of which what lies in the gaps is NaN where the type allows it."""
    rng = np.random.default_rng(seed)
    values, mask = rng.normal(0, 100, (N, channels)).astype(dtype), rng.random(N) > 0.01
    mask[900:1200] = False
    mask[1300:2800] = True
    if values.dtype.kind == "f":
        values[~mask] = np.nan
    return values, mask


def interpolated(method, rate, irregular=False):
    times = 0.5 + np.cumsum(np.random.default_rng(9).uniform(0.02, 0.05, N))
    clock = times if irregular else (0.5, 30.0)
    n = int((N / 30 + 2) * rate)
    return lambda x, mask: Interpolated(x, clock, 0.0, rate, n, method, 0.1, mask)


KINDS = {
    **{f"{m} up": interpolated(m, 400.0) for m in METHODS},
    **{f"{m} across": interpolated(m, 29.97, irregular=True) for m in METHODS},
    **{f"resampled {r}": lambda x, mask, r=r: Resampled(x, mask, r) for r in RATIOS},
    **{f"causal {r}": lambda x, mask, r=r: Resampled(x, mask, r, causal=True) for r in RATIOS},
    "summed": lambda x, mask: SummedBins(x, mask, 4),
}


@pytest.mark.parametrize("dtype", ["f4", "f8", "i2"])
@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_the_same_bytes_however_they_are_sliced(kind, dtype):
    rng = np.random.default_rng(0)
    for channels in (1, 5):
        values, mask = source(1, dtype, channels)
        rows = KINDS[kind](OnDisk(values), mask)
        again = pickle.loads(pickle.dumps(rows))

        whole = rows[:]

        assert (whole.shape, whole.dtype) == (rows.shape, rows.dtype)
        assert rows.mask.shape == (len(rows),)
        assert np.isfinite(whole).all()
        assert not whole[~rows.mask].any()
        for _ in range(8):
            a, b = np.sort(rng.integers(0, len(rows) + 1, 2))
            assert again[a:b].tobytes() == whole[a:b].tobytes()
            assert rows[a : a + 7].tobytes() == whole[a : a + 7].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_a_few_rows_read_a_few_of_the_source(kind):
    values, mask = source(2, "i2")
    disk = OnDisk(values)
    rows = KINDS[kind](disk, mask)

    _ = rows[1000:1010]

    assert disk.most < 1500  # a block of the spline and the gaps in it; the others read far less


@pytest.mark.parametrize("kind", KINDS)
def test_what_was_not_recorded_changes_nothing(kind):
    values, mask = source(3, "i2")
    other = np.where(mask[:, None], values, 30_000).astype("i2")

    assert KINDS[kind](values, mask)[:].tobytes() == KINDS[kind](other, mask)[:].tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_recorded_gives_nothing(kind):
    rows = KINDS[kind](np.ones((N, 2), "f4"), np.zeros(N, bool))

    assert not rows.mask.any()
    assert not rows[:].any()


def test_rows_are_not_skipped():
    with pytest.raises(ValueError, match="not in steps of 2"):
        SummedBins(np.ones((9, 1)), None, 3)[::2]


def test_rows_with_nan_or_infinity_are_found_whatever_the_block():
    values = np.ones((1000, 3), "f4")
    values[[0, 17, 998], [0, 2, 1]] = np.nan, np.inf, -np.inf

    for block_bytes in (1, 100, 10**6):
        lost = np.flatnonzero(~finite_rows(OnDisk(values), block_bytes))
        np.testing.assert_array_equal(lost, [0, 17, 998])
    assert finite_rows(np.ones((3, 1), int)).all()


def test_stretches_of_a_mask():
    assert stretches(np.array([1, 1, 0, 1, 0], bool)) == [(0, 2), (3, 4)]
    assert stretches(np.zeros(3, bool)) == []
