"""Small batches of signals and of events, made in memory for tests of tokenizers."""

import dataclasses

import torch

from neurofmx.batches import EventBatch, SignalBatch

T0 = 1.7e9 + 0.123456  # s; clocks count from 1970


def samples(batch=2, time=24, channels=6, dt=0.01, seed=0, **changes) -> SignalBatch:
    """A signal whose window 1 is shorter and has fewer channels, with a gap in window 0."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, time, dtype=torch.bool)
    mask[0, 9:13] = mask[1, time - 5 :] = False
    channel_mask = torch.ones(batch, channels, dtype=torch.bool)
    channel_mask[1, channels - 2 :] = False
    made = SignalBatch(
        values=torch.randn(batch, time, channels, generator=g),
        t0=T0 + torch.arange(batch, dtype=torch.float64),
        dt=dt,
        mask=mask,
        channel_ids=torch.randint(0, channels + 1, (batch, channels), generator=g),
        channel_mask=channel_mask,
        regions=torch.randint(0, 3, (batch, channels), generator=g),
        positions=0.01 * torch.rand(batch, channels, 3, generator=g),
    )
    return dataclasses.replace(made, **changes)


def events(batch=2, n=20, units=6, duration=0.5, waveform=0, seed=0, **changes) -> EventBatch:
    """Events of which window 1 has fewer, of fewer units; unit 0 is silent."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.ones(batch, n, dtype=torch.bool)
    mask[1, n - 4 :] = False
    channel_mask = torch.ones(batch, units, dtype=torch.bool)
    channel_mask[1, units - 2 :] = False
    made = EventBatch(
        times=duration * torch.rand(batch, n, generator=g).sort(1).values,
        channels=torch.randint(1, units - 2, (batch, n), generator=g),
        t0=T0 + torch.arange(batch, dtype=torch.float64),
        duration=torch.full((batch,), duration),
        mask=mask,
        channel_ids=torch.stack([torch.randperm(units, generator=g) + 1 for _ in range(batch)]),
        channel_mask=channel_mask,
        regions=torch.randint(0, 3, (batch, units), generator=g),
        positions=0.01 * torch.rand(batch, units, 3, generator=g),
        waveforms=torch.randn(batch, n, waveform, generator=g) if waveform else None,
    )
    return dataclasses.replace(made, **changes)
