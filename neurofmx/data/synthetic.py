"""Synthetic recordings with a known truth, written as genuine NWB files.

A cue pushes a latent state z (3-D, shared dynamics) in each trial, and everything is read off z:

    dz/dt = A z + cue · b · bump(t) + slow noise
    spikes of unit i    Poisson, rate exp(base_i + c_i · z), own c_i and base_i in each subject;
                        those within 2 ms of the one before are left out, as a neuron would
    hand velocity       V z + noise, the same V for all
    LFP                 1/f noise + a 20 Hz rhythm whose power follows z₁
    camera              hand position, stamped by a clock with offset and drift: t = offset +
                        (1 + drift · 1e-6) · t_camera, tied to the recording by pulses both saw

The truth (z, tuning, the camera's clock) is saved apart. Equal settings give equal bytes.
"""

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from numpy import ndarray
from pynwb import NWBFile, TimeSeries
from pynwb.behavior import Position, SpatialSeries
from pynwb.ecephys import LFP
from pynwb.file import Subject
from scipy.ndimage import gaussian_filter1d

from neurofmx.data.nwb_write import write_nwb
from neurofmx.data.sources.synthetic import SyntheticSource

RATE = 100.0  # Hz of latents and velocity
LFP_RATE, LFP_CHANNELS, LFP_STEP = 250.0, 4, 1e-7  # Hz, count, V per stored integer
CAMERA_RATE, FRAME_JITTER = 30.0, 1e-3  # Hz, s
PULSE_EVERY, PULSE_JITTER = 1.0, 50e-6  # s
TRIAL, PAUSE = (2.0, 2.4), (0.4, 0.8)  # s, shortest and longest
REFRACTORY = 2e-3  # s
BASE_RATES, GAIN = (4.0, 20.0), 0.8  # Hz; log rate per unit of latent
VELOCITY = 0.1 * np.array([[1.0, 0.3, 0.2], [-0.2, 1.0, -0.4]])  # m/s per unit of latent
START = datetime(2024, 1, 1, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Truth:
    """What a synthetic recording was made from.

    Attributes:
        times: Of the latents, on the recording's clock (s).
        latents: The state z.
        tuning: Change of log rate per unit of latent.
        base: Log of the rate (Hz) at z = 0.
        offset: Time on the recording's clock when the camera's clock was 0 (s).
        drift: Parts per million by which the camera's clock runs slow.
    """

    times: Float[ndarray, " time"]
    latents: Float[ndarray, "time latent"]
    tuning: Float[ndarray, "unit latent"]
    base: Float[ndarray, " unit"]
    offset: float
    drift: float

    def camera(self, times: Float[ndarray, " event"]) -> Float[ndarray, " event"]:
        """What the camera's clock shows at these times of the recording (s)."""
        return (times - self.offset) / (1.0 + self.drift * 1e-6)


def recordings(source: SyntheticSource) -> dict[str, tuple[int, int]]:
    """Id of each recording → its subject and its number within the subject, from 1."""
    return {
        f"synthetic-{subject}-{number}": (subject, number)
        for subject in range(1, source.subjects + 1)
        for number in range(1, source.recordings + 1)
    }


def write_recording(
    source: SyntheticSource, recording: str, identifier: str, path: Path, truth: Path
) -> None:
    """Write one recording as NWB and its truth as `.npz`, each all or nothing, the NWB last.

    Args:
        recording: One of `recordings(source)`.
        identifier: Of the NWB file; it tells settings apart.
        path: The NWB file.
        truth: The file with the arrays of `Truth`.
    """
    subject, number = recordings(source)[recording]
    animal = np.random.default_rng([source.seed, subject])
    rng = np.random.default_rng([source.seed, subject, number])
    trials, cues = _trials(source.duration, rng)
    latents = _latents(source.duration, trials, cues, rng)
    made = Truth(
        times=np.arange(len(latents)) / RATE,
        latents=latents,
        tuning=_tuning(source.units, animal),
        base=np.log(animal.uniform(*BASE_RATES, source.units)),
        offset=float(np.round(rng.uniform(2.0, 8.0), 6)),
        drift=source.drift,
    )
    nwb = _empty(recording, subject, number, identifier)
    _add_trials(nwb, trials, cues)
    _add_units(nwb, made, rng)
    _add_lfp(nwb, made, source.duration, rng)
    velocity = latents @ VELOCITY.T + rng.normal(0, 0.02, (len(latents), 2))
    _add_behavior(nwb, velocity)
    _add_camera(nwb, made, velocity, rng)
    _save(nwb, path, truth, made)


def _trials(
    duration: float, rng: np.random.Generator
) -> tuple[Float[ndarray, "trial 2"], Int[ndarray, " trial"]]:
    """Start and stop of each trial (s), and its cue: -1 left, 1 right, balanced."""
    pairs, t = [], 1.0
    while t + TRIAL[1] <= duration:
        stop = t + rng.uniform(*TRIAL)
        pairs.append((t, stop))
        t = stop + rng.uniform(*PAUSE)
    cues = rng.permutation(np.resize([-1, 1], len(pairs)))
    return np.array(pairs), cues


def _latents(
    duration: float,
    trials: Float[ndarray, "trial 2"],
    cues: Int[ndarray, " trial"],
    rng: np.random.Generator,
) -> Float[ndarray, "time latent"]:
    """A damped rotation (z₁, z₂) and a slow leak (z₃), pushed by the cue and by slow noise."""
    n, dt = round(duration * RATE), 1.0 / RATE
    a = np.array([[-2.0, -5.0, 0.0], [5.0, -2.0, 0.0], [0.0, 0.0, -1.5]])  # 1/s
    noise = gaussian_filter1d(rng.normal(size=(n, 3)), 0.1 * RATE, axis=0)
    push = 4.0 * noise / noise.std(axis=0)
    for (start, stop), cue in zip(trials, cues, strict=True):
        rows = np.arange(int(start * RATE), int(stop * RATE))
        bump = np.sin(np.pi * (rows / RATE - start) / (stop - start))
        push[rows] += cue * bump[:, None] * np.array([3.0, 1.2, 1.5])
    z = np.zeros((n, 3))
    for k in range(1, n):
        z[k] = z[k - 1] + dt * (a @ z[k - 1] + push[k - 1])
    return z


def _tuning(units: int, rng: np.random.Generator) -> Float[ndarray, "unit latent"]:
    """A preferred direction of its own for each unit."""
    directions = rng.normal(size=(units, 3))
    return GAIN * directions / np.linalg.norm(directions, axis=1, keepdims=True)


def _empty(recording: str, subject: int, number: int, identifier: str) -> NWBFile:
    start = START + timedelta(days=number - 1)
    return NWBFile(
        session_description="synthetic recording made by neurofmx.data.synthetic; not an animal",
        identifier=identifier,
        session_start_time=start,
        file_create_date=start,
        session_id=recording,
        keywords=["synthetic"],
        notes="licence: CC0 1.0\nsynthetic: every value was computed, none was measured",
        subject=Subject(
            subject_id=f"synthetic-{subject}",
            species="Mus musculus",
            sex="U",
            age="P90D",
            description="synthetic: there is no such animal; the species is only a label",
        ),
    )


def _add_trials(
    nwb: NWBFile, trials: Float[ndarray, "trial 2"], cues: Int[ndarray, " trial"]
) -> None:
    nwb.add_trial_column("cue", "synthetic cue that pushes the latent state")
    for (start, stop), cue in zip(trials, cues, strict=True):
        nwb.add_trial(start_time=start, stop_time=stop, cue="left" if cue < 0 else "right")


def _add_units(nwb: NWBFile, truth: Truth, rng: np.random.Generator) -> None:
    """Spike times: Poisson counts in bins of 1 / RATE, spread evenly inside each bin."""
    nwb.add_unit_column("base_rate", "rate in Hz where the latent state is 0")
    rates = np.exp(truth.base + truth.latents @ truth.tuning.T)
    counts = rng.poisson(rates / RATE)
    for unit, count in enumerate(counts.T):
        bins = np.repeat(np.arange(len(count)), count)
        times = np.sort((bins + rng.uniform(size=len(bins))) / RATE)
        times = times[np.diff(times, prepend=-1.0) >= REFRACTORY]
        nwb.add_unit(spike_times=times, base_rate=float(np.exp(truth.base[unit])))


def _add_lfp(nwb: NWBFile, truth: Truth, duration: float, rng: np.random.Generator) -> None:
    n = round(duration * LFP_RATE)
    frequency = np.fft.rfftfreq(n, 1.0 / LFP_RATE)
    shape = np.r_[0.0, 1.0 / np.sqrt(frequency[1:])]  # amplitude of 1/f power
    spectrum = rng.normal(size=(LFP_CHANNELS, len(frequency), 2)) @ np.array([1.0, 1.0j])
    background = np.fft.irfft(shape * spectrum, n).T
    t = np.arange(n) / LFP_RATE
    power = np.exp(np.interp(t, truth.times, truth.latents[:, 0]))
    rhythm = np.sqrt(power) * np.sin(2 * np.pi * 20.0 * t)
    gains = np.linspace(0.5, 1.0, LFP_CHANNELS)
    volts = 50e-6 * background / background.std() + 20e-6 * gains * rhythm[:, None]
    lfp = LFP()
    nwb.create_processing_module("ecephys", "synthetic electrical activity").add(lfp)
    lfp.create_electrical_series(
        name="lfp",
        description="synthetic local field potential",
        data=np.round(volts / LFP_STEP).astype(np.int16),
        conversion=LFP_STEP,
        rate=LFP_RATE,
        starting_time=0.0,
        electrodes=_electrodes(nwb),
    )


def _electrodes(nwb: NWBFile) -> Any:
    device = nwb.create_device("probe", description="synthetic: there is no such probe")
    group = nwb.create_electrode_group("shank", "synthetic", "synthetic", device)
    for _ in range(LFP_CHANNELS):
        nwb.add_electrode(location="synthetic", group=group)
    return nwb.create_electrode_table_region(list(range(LFP_CHANNELS)), "all channels")


def _add_behavior(nwb: NWBFile, velocity: Float[ndarray, "time 2"]) -> None:
    behavior = nwb.create_processing_module("behavior", "synthetic behaviour")
    behavior.add(
        TimeSeries(
            name="hand_vel",
            description="synthetic hand velocity (x, y)",
            data=velocity.astype(np.float32),
            unit="m/s",
            rate=RATE,
            starting_time=0.0,
        )
    )


def _add_camera(
    nwb: NWBFile, truth: Truth, velocity: Float[ndarray, "time 2"], rng: np.random.Generator
) -> None:
    """Pose and pulses on the camera's clock, and the same pulses on the recording's clock."""
    end = truth.times[-1]
    frames = np.arange(truth.offset + 1.0 / CAMERA_RATE, end, 1.0 / CAMERA_RATE)
    frames = np.sort(frames + rng.normal(0, FRAME_JITTER, len(frames)))
    place = _place(velocity)
    hand = np.stack([np.interp(frames, truth.times, axis) for axis in place.T], axis=1)
    pose = SpatialSeries(
        name="hand",
        description="synthetic hand position (x, y), on the clock of the camera",
        data=(hand + rng.normal(0, 0.002, hand.shape)).astype(np.float32),
        unit="meters",
        reference_frame="synthetic table",
        timestamps=truth.camera(frames),
    )
    nwb.processing["behavior"].add(Position(pose, name="pose"))
    # Intervals vary, as from a random generator in a rig: a strict period hides the offset.
    intervals = PULSE_EVERY * rng.uniform(0.8, 1.2, int(end / PULSE_EVERY) + 1)
    pulses = truth.offset + np.cumsum(intervals)
    pulses = pulses[pulses < end - 1.0]
    _add_pulses(nwb, "sync", _seen(pulses, 2, rng), "the recording")
    _add_pulses(nwb, "camera_sync", truth.camera(_seen(pulses, 3, rng)), "the camera")


def _place(velocity: Float[ndarray, "time 2"]) -> Float[ndarray, "time 2"]:
    """Velocity integrated with a leak of 1 s, so that the hand stays near the centre (m)."""
    place = np.zeros_like(velocity)
    for k in range(1, len(place)):
        place[k] = place[k - 1] * (1 - 1.0 / RATE) + velocity[k - 1] / RATE
    return place


def _seen(
    pulses: Float[ndarray, " event"], missed: int, rng: np.random.Generator
) -> Float[ndarray, " seen"]:
    """The pulses as one device saw them: jittered, a few missed."""
    kept = np.delete(pulses, rng.choice(len(pulses), min(missed, len(pulses) // 10), replace=False))
    return kept + rng.normal(0, PULSE_JITTER, len(kept))


def _add_pulses(nwb: NWBFile, name: str, times: Float[ndarray, " event"], whose: str) -> None:
    ones = np.ones(len(times), dtype=np.uint8)
    about = f"synthetic sync pulses on the clock of {whose}"
    nwb.add_acquisition(
        TimeSeries(name=name, description=about, data=ones, unit="n/a", timestamps=times)
    )


def _save(nwb: NWBFile, path: Path, truth_path: Path, truth: Truth) -> None:
    truth_path.parent.mkdir(parents=True, exist_ok=True)
    temporary = truth_path.with_name(f".{truth_path.stem}.tmp.npz")
    np.savez(temporary, allow_pickle=False, **vars(truth))
    os.replace(temporary, truth_path)
    write_nwb(nwb, path)
