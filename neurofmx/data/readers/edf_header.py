"""The header of an EDF or BDF file: what MNE does not tell about it.

Source: Kemp & Olivan 2003, European data format 'plus' (EDF+), doi:10.1016/S1388-2457(03)00123-8;
BDF is the same with samples of three bytes.
"""

from dataclasses import dataclass
from pathlib import Path

from neurofmx.errors import DataError

FIXED = 256  # bytes of the header before its fields for each channel
LABEL, UNIT, COUNT = (0, 16), (96, 8), (216, 8)  # of these: bytes per channel before, and of each


@dataclass(frozen=True)
class EdfHeader:
    """Channels of a file, those with annotations included.

    Attributes:
        units: Physical dimension of each channel, as written.
        counts: Samples of each channel in a data record.
    """

    labels: list[str]
    units: list[str]
    counts: list[int]

    @property
    def by_count(self) -> list[list[str]]:
        """Labels of the channels that share a rate, for each rate; no annotations."""
        kept = [(n, x) for n, x in zip(self.counts, self.labels, strict=True) if not _tal(x)]
        return [[x for n, x in kept if n == count] for count in sorted({n for n, _ in kept})]


def read_edf_header(path: Path) -> EdfHeader:
    """The header of a file that lies here.

    Raises:
        DataError: There is none, the file is cut off, or its records leave time out.
    """
    with path.open("rb") as file:
        fixed = file.read(FIXED).decode("latin-1")
        try:
            n_records, n = int(fixed[236:244]), int(fixed[252:256])
            rest = file.read(FIXED * n).decode("latin-1")
            counts = [int(count) for count in _fields(rest, n, *COUNT)]
        except ValueError as error:
            raise DataError(f"{path.name}: has no whole EDF header: {error}; is it EDF?") from error
    if fixed[192:197] in ("EDF+D", "BDF+D"):
        raise DataError(
            f"{path.name}: is discontinuous ({fixed[192:197]}): time is missing between its "
            "records. Write each stretch as a file of its own, in EDF+C"
        )
    width = 3 if path.suffix.lower() == ".bdf" else 2
    held = (path.stat().st_size - FIXED * (1 + n)) // (width * max(1, sum(counts)))
    if held < n_records:  # -1 where the recorder was not stopped
        raise DataError(
            f"{path.name}: is cut off: {held} of the {n_records} records that its header counts. "
            "Fetch it again"
        )
    return EdfHeader(_fields(rest, n, *LABEL), _fields(rest, n, *UNIT), counts)


def _fields(text: str, n: int, before: int, width: int) -> list[str]:
    return [text[before * n + k * width :][:width].strip() for k in range(n)]


def _tal(label: str) -> bool:
    """True for a channel of time-stamped annotations."""
    return label in ("EDF Annotations", "BDF Annotations")
