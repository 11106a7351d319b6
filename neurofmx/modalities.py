"""The kinds of signal, each with its unit, usual rates and the tokenizers that can read it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Modality:
    """One kind of signal.

    Attributes:
        unit: SI unit of its values after ingest; files that do not know theirs keep their word.
        rates: Lowest and highest rate that is usual for it (Hz); outside, validate warns.
        tokenizers: Rows of `TOKENIZERS` that can turn it into tokens, of which the first does
            unless a card chooses another; none for what is only a target or a table.
        neural: Whether it comes from the brain; the others are of body or world.
    """

    unit: str
    rates: tuple[float, float]
    tokenizers: tuple[str, ...] = ()
    neural: bool = False

    @property
    def tokenizer(self) -> str | None:
        """The one that it goes through unless a card chooses another."""
        return self.tokenizers[0] if self.tokenizers else None


MODALITIES: dict[str, Modality] = {
    "spikes": Modality("count", (1e3, 1e5), ("binned", "spikes"), neural=True),
    "binned_counts": Modality("count", (1.0, 1e3), ("binned", "continuous"), neural=True),
    "lfp": Modality("V", (200.0, 5e3), ("continuous",), neural=True),
    "eeg": Modality("V", (100.0, 5e3), ("continuous",), neural=True),
    "ecog": Modality("V", (200.0, 1e4), ("continuous",), neural=True),
    "emg": Modality("V", (100.0, 1e4), ("continuous",)),
    # Patch clamp: V, or A where V is held.
    "intracellular": Modality("V", (1e3, 2e5), ("continuous",), neural=True),
    "calcium": Modality("1", (1.0, 200.0), ("binned", "continuous"), neural=True),
    "fmri": Modality("1", (0.1, 10.0), ("image", "binned", "continuous"), neural=True),
    "video": Modality("1", (1.0, 1e3), ("image",)),
    "audio": Modality("1", (8e3, 5e5), ("audio",)),
    "pose": Modality("m", (10.0, 500.0), ("continuous",)),
    "eye": Modality("m", (10.0, 2e3), ("continuous",)),
    "behavior": Modality("1", (0.5, 5e3)),
    "trials": Modality("s", (0.0, 0.0)),
    "pulses": Modality("s", (0.0, 0.0)),
}
