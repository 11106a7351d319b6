"""Sound as a picture of mel bands."""

import numpy as np
import pytest
import torch

from neurofmx.signal.spectra import log_mel
from neurofmx.tokenizers import AudioTokenizer


def tokenizer(**options) -> AudioTokenizer:
    torch.manual_seed(0)
    return AudioTokenizer(AudioTokenizer.Config(width=8, **options))


def test_sound_becomes_the_frames_that_the_loader_gives():
    t, sound = tokenizer(grid=[32], span=0.1), torch.randn(2, 8000)
    found = t(sound, t0=torch.tensor([1.7e9, 5.0]).double())
    mel = np.stack([log_mel(x[:, None].numpy(), 16e3, bands=32, span=0.1)[0] for x in sound])
    mask = torch.ones(2, 50, dtype=torch.bool)
    mask[:, :9] = False  # they reach back before the sound: 100 ms every 10 ms
    frames = torch.tensor(mel)
    direct = super(AudioTokenizer, t).forward(frames, mask=mask)
    torch.testing.assert_close(found.tokens, direct.tokens)
    assert found.tokens.shape == (2, 13, 8)
    assert found.mask.tolist() == [[False, False] + [True] * 11] * 2
    assert found.times[:, 0].tolist() == [1.7e9, 5.0]
    assert found.rate == pytest.approx(25.0)  # 4 frames of 10 ms


@pytest.mark.parametrize(("frequency", "tile"), [(300.0, 0), (7000.0, 3)])
def test_a_tone_lies_in_the_tile_of_its_bands(frequency, tile):
    t, time = tokenizer(), torch.arange(16000) / 16e3
    quiet = 1e-3 * torch.randn(1, 16000)
    seen = {}
    t.project.register_forward_hook(lambda _, given, __: seen.update(cells=given[0]))
    cells = []
    for sound in (quiet, quiet + torch.sin(2 * torch.pi * frequency * time)):
        t(sound)
        cells.append(seen["cells"])
    louder = (cells[1] - cells[0])[0, 3:].amax(-1)  # token × tile
    assert (louder.argmax(-1) == tile).all()


def test_calls_above_hearing():
    """A call of 70 kHz at 250 kHz, in bands from 20 kHz up."""
    t = tokenizer(rate=250e3, dt=2e-3, span=4e-3, low=20e3, grid=[48])
    time = torch.arange(50_000) / 250e3
    quiet = 1e-3 * torch.randn(1, 50_000)
    call = quiet + torch.sin(2 * torch.pi * 70e3 * time) * (time >= 0.104)
    before, after = t(quiet), t(call)
    moved = (after.tokens - before.tokens)[0].norm(dim=-1) > 1e-2
    assert before.tokens.shape == (1, 25, 8)  # of 8 ms
    assert torch.equal(moved, before.middles[0] > 0.104)  # and none before it


def test_a_band_that_cannot_be_is_refused():
    with pytest.raises(ValueError, match="bands from 0 to 20000 Hz at a rate of 16000 Hz"):
        tokenizer(high=20e3)(torch.randn(1, 16000))
