"""The kinds of signal, each with its unit, usual rates and the tokenizer that reads it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Modality:
    """One kind of signal.

    Attributes:
        unit: SI unit of its values after ingest; files that do not know theirs keep their word.
        rates: Lowest and highest rate that is usual for it (Hz); outside, validate warns.
        tokenizer: Row of `TOKENIZERS` that turns it into tokens, or None for what is only a
            target or a table.
    """

    unit: str
    rates: tuple[float, float]
    tokenizer: str | None


MODALITIES: dict[str, Modality] = {
    "spikes": Modality("count", (1e3, 1e5), "binned"),
    "binned_counts": Modality("count", (1.0, 1e3), "binned"),
    "lfp": Modality("V", (200.0, 5e3), "continuous"),
    "eeg": Modality("V", (100.0, 5e3), "continuous"),
    "ecog": Modality("V", (200.0, 1e4), "continuous"),
    "emg": Modality("V", (100.0, 1e4), "continuous"),
    "intracellular": Modality("V", (1e3, 2e5), None),  # patch clamp: V, or A where V is held
    "calcium": Modality("1", (1.0, 200.0), "binned"),
    "fmri": Modality("1", (0.1, 10.0), "continuous"),
    "video": Modality("1", (1.0, 1e3), None),
    "audio": Modality("1", (8e3, 5e5), None),
    "pose": Modality("m", (10.0, 500.0), "continuous"),
    "eye": Modality("m", (10.0, 2e3), "continuous"),
    "behavior": Modality("1", (0.5, 5e3), None),
    "trials": Modality("s", (0.0, 0.0), None),
    "pulses": Modality("s", (0.0, 0.0), None),
}
