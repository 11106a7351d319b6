"""Log-mel frames: power where the tone is, of the right size, and nothing from the future."""

import numpy as np
import pytest

from neurofmx.signal.spectra import FLOOR, log_mel, mel_edges, mel_filters


def tone(hertz: float, rate: float, duration: float = 0.2, amplitude: float = 1.0) -> np.ndarray:
    t = np.arange(round(duration * rate)) / rate
    return amplitude * np.sin(2 * np.pi * hertz * t)[:, None]


def power(mel: np.ndarray) -> np.ndarray:
    return np.expm1(mel.astype(float)) * FLOOR


@pytest.mark.parametrize(
    ("hertz", "rate"), [(1000.0, 8e3), (440.0, 44.1e3), (8000.0, 48e3), (61234.0, 250e3)]
)
def test_a_tone_is_loudest_in_the_band_whose_centre_is_nearest(hertz, rate):
    mel, seen = log_mel(tone(hertz, rate), rate)
    centres = mel_edges(64, 0.0, rate / 2)[1:-1]
    on_scale = np.log1p(centres / 700) - np.log1p(hertz / 700)

    assert seen.sum() == 18  # of 20; the first two reach back before the first sample
    # Two bands are equally loud where the tone is half way between their centres.
    assert set(mel[seen].argmax(axis=1)) <= set(np.argsort(np.abs(on_scale))[:2])
    loud = power(mel[10])
    assert loud.max() > 1e3 * np.median(loud)


def test_bands_share_the_power_of_a_tone_between_them():
    # 1 kHz lies on the grid of frequencies (40 Hz apart), so the Hann window leaks to two of them,
    # and bands sum to 1 there: what comes out is the mean square, amplitude² / 2.
    mel, seen = log_mel(tone(1000.0, 8e3, amplitude=0.3), 8e3, bands=20)

    np.testing.assert_allclose(power(mel[seen]).sum(axis=1), 0.3**2 / 2, rtol=1e-5)


def test_bands_sum_to_one_between_the_first_and_the_last_centre():
    filters, edges = mel_filters(1200, 48e3, 40, 300.0, 20e3), mel_edges(40, 300.0, 20e3)
    hertz = np.arange(601) * 40.0
    inside = (hertz >= edges[1]) & (hertz <= edges[-2])

    np.testing.assert_allclose(filters.sum(axis=0)[inside], 1.0, atol=1e-6)
    assert (filters[:, (hertz <= 300.0) | (hertz >= 20e3)] == 0).all()
    # 1000 Hz is 1000 mel on this scale, by its definition.
    assert 2595 * np.log10(1 + 1000 / 700) == pytest.approx(1000, abs=0.1)
    assert mel_edges(1, 0.0, 6300.0)[1] == pytest.approx(700 * (10**0.5 - 1))


def test_every_frame_is_what_the_definition_says():
    rng = np.random.default_rng(0)
    rate, hop, span, bands = 1000.0, 0.004, 0.01, 5  # frames of 10 samples, every 4
    values = rng.normal(size=(23, 2))
    mel, seen = log_mel(values, rate, bands, hop, span)
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(10) / 10)
    edges = mel_edges(bands, 0.0, 500.0)

    assert seen.tolist() == [False, False, True, True, True]
    for k in np.flatnonzero(seen):
        frame = values[4 * (k + 1) - 10 : 4 * (k + 1)]
        expected = np.zeros(bands)
        for m in range(-4, 6):  # both sides of the spectrum, 100 Hz apart
            wave = np.exp(-2j * np.pi * m * np.arange(10) / 10)
            strength = np.mean(np.abs((window * wave) @ frame) ** 2) / (10 * (window**2).sum())
            hertz = 100.0 * abs(m)
            for b in range(bands):
                up = (hertz - edges[b]) / (edges[b + 1] - edges[b])
                down = (edges[b + 2] - hertz) / (edges[b + 2] - edges[b + 1])
                expected[b] += max(0.0, min(up, down)) * strength
        np.testing.assert_allclose(mel[k], np.log(1 + expected / FLOOR), rtol=1e-5)
    assert (mel[~seen] == 0).all()


@pytest.mark.parametrize(("rate", "bands"), [(8e3, 128), (250e3, 512)])
def test_a_band_without_a_frequency_is_zero(rate, bands):
    noise = np.random.default_rng(0).normal(size=(round(0.1 * rate), 1))
    mel, seen = log_mel(noise, rate, bands)
    empty = mel_filters(round(0.025 * rate), rate, bands, 0.0, rate / 2).sum(axis=1) == 0

    assert empty.any()
    assert np.isfinite(mel).all()
    assert (mel[:, empty] == 0).all()
    assert (mel[seen][:, ~empty] > 0).all()


def test_silence_is_zero():
    mel, _ = log_mel(np.zeros((2500, 1)), 250e3)
    assert (mel == 0).all()


@pytest.mark.parametrize("rate", [8e3, 22050.0, 24414.0625])  # hops of whole and of broken samples
def test_a_frame_ends_with_its_hop(rate):
    values = np.random.default_rng(0).normal(size=(round(0.3 * rate), 1))
    before, seen = log_mel(values, rate)
    stops = np.rint(np.arange(1, 31) * 0.01 * rate).astype(int)
    assert seen.tolist() == (stops >= round(0.025 * rate)).tolist()
    for k in (5, 17):
        changed = values.copy()
        changed[stops[k] :] += 1.0
        after, _ = log_mel(changed, rate)

        np.testing.assert_array_equal(after[: k + 1], before[: k + 1])
        assert (after[k + 1] != before[k + 1]).any()


def test_a_frame_is_the_same_in_every_piece_that_holds_it():
    values = np.random.default_rng(0).normal(size=(4000, 1))
    whole, _ = log_mel(values, 8e3)
    piece, seen = log_mel(values[800:2400], 8e3)  # from 0.1 s, which is hop 10

    np.testing.assert_allclose(piece[seen], whole[10:30][seen], rtol=1e-6)


def test_frames_that_touch_a_gap_are_masked():
    values, mask = tone(500.0, 8e3), np.ones(1600, bool)
    mask[800] = False  # 0.1 s: in the frames that end after it and began before it, at 80 n
    mel, seen = log_mel(values, 8e3, mask=mask)

    assert np.flatnonzero(~seen).tolist() == [0, 1, 10, 11]  # frame 10 has 680…879, 12 has 840…1039
    assert (mel[~seen] == 0).all()


def test_channels_are_averaged_in_power():
    left, right = tone(1000.0, 8e3), tone(2000.0, 8e3)
    both, seen = log_mel(np.hstack([left, right]), 8e3)
    apart = [power(log_mel(one, 8e3)[0][seen]) for one in (left, right)]

    np.testing.assert_allclose(power(both[seen]), np.mean(apart, axis=0), rtol=1e-4, atol=1e-12)


def test_integers_and_pieces_shorter_than_a_frame_are_read():
    counts = np.round(1000 * tone(1000.0, 8e3)).astype(np.int16)
    np.testing.assert_allclose(
        log_mel(counts, 8e3)[0], log_mel(counts.astype(float), 8e3)[0], rtol=1e-6
    )
    mel, seen = log_mel(counts[:100], 8e3)  # one hop, half a frame
    assert (mel.shape, seen.tolist()) == ((1, 64), [False])
    assert log_mel(counts[:79], 8e3)[0].shape == (0, 64)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"high": 5e3}, "bands from 0 to 5000 Hz at a rate of 8000 Hz.*between 0 and 4000 Hz"),
        ({"low": 4e3}, "bands from 4000 to 4000 Hz"),
        ({"span": 1e-4}, r"frames of 0\.0001 s.*needs two samples"),
        ({"hop": 1e-5}, r"one every 1e-05 s, at 8000 Hz"),
        ({"bands": 0}, "0 bands"),
    ],
)
def test_impossible_bands_and_frames_are_explained(settings, message):
    with pytest.raises(ValueError, match=message):
        log_mel(tone(500.0, 8e3), 8e3, **settings)
