"""How well the clock of each device of a card can be fitted, as align will fit it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from jaxtyping import Float
from numpy import ndarray

from neurofmx.data.cards import Card, ClockCard
from neurofmx.signal.clocks import fit_pulses
from neurofmx.types import Events, Intervals, Recording, Signal


def clock_rows(recording: Recording, card: Card) -> Iterator[dict[str, Any]]:
    """The rows of a recording in the table `alignment`: one per device that it has."""
    for device, clock in card.clocks.items():
        if any(name in recording.signals for name in (*clock.signals, clock.device)):
            yield {"clock": device} | _clock_row(recording, clock)


def _clock_row(recording: Recording, clock: ClockCard) -> dict[str, Any]:
    """A clock that cannot be fitted has no events, and the reason as `problem`."""
    absent = [s for s in (clock.device, clock.reference) if s not in recording.signals]
    if absent:
        return {"n_events": 0, "problem": f"there is no signal {' nor '.join(absent)}"}
    device, reference = (
        _times(recording.signals[name]) for name in (clock.device, clock.reference)
    )
    row: dict[str, Any] = {"n_device": len(device), "n_reference": len(reference)}
    try:
        fit = fit_pulses(device, reference)
    except ValueError as error:
        return row | {"n_events": 0, "problem": str(error)}
    drifts = [fit.clock.drift, *(piece.drift for piece in fit.clock.later)]
    return row | {
        "offset": fit.clock.offset,
        "drift": max(drifts, key=abs),
        "residual": fit.clock.residual,
        "n_events": fit.clock.n_events,
        "matched": fit.clock.n_events / min(len(device), len(reference)),
        "pieces": len(drifts),
    }


def _times(signal: Signal) -> Float[ndarray, " event"]:
    """Times of the events in a signal (s); faults in them have checks of their own."""
    if isinstance(signal, Events):
        times = signal.times
    else:
        times = signal.start if isinstance(signal, Intervals) else signal.clock
    return np.sort(times[np.isfinite(times)])
