"""Recordings in ALF, the file names of IBL: `object.attribute.npy`, a file for each attribute.

What an object holds follows from its attributes, which all have as many rows:

    spikes      `times` and `clusters`, with `clusters` and `channels` beside them → spikes
    a table     `table`, or `intervals` and further columns (trials, wheelMoves) → stretches
    traces      `times` or `timestamps` and values (wheel, cameras) → samples of each attribute
    instants    `times` alone (licks) → pulses

The path of a signal is its folder in the session, the object and, for samples, the attribute:
`alf/probe00/pykilosort/spikes`, `alf/trials`, `alf/wheel.position`, `alf/leftCamera.dlc`.

Source: the ALF conventions, int-brain-lab.github.io/ONE/alf_intro.html.
"""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float
from numpy import ndarray

from neurofmx.data.arrays import Plain
from neurofmx.data.readers.base import About
from neurofmx.data.readers.marks import read_marks
from neurofmx.data.readers.nwb_times import check_finite, check_times, even_rate
from neurofmx.data.signal_cards import SignalCard
from neurofmx.errors import DataError
from neurofmx.types import Events, Samples, Signal

SESSION = re.compile(
    r"(?:[\w-]+/Subjects/)?(?P<subject>[\w.-]+)/(?P<date>\d{4}-\d\d-\d\d)/(?P<number>\d{1,3})/"
)
NAME = re.compile(
    r"(?:_[a-zA-Z0-9]+_)?(?P<object>\w+)\.(?P<attribute>\w+)(?P<extra>(?:\.[\w-]+)*)\.(?P<kind>\w+)"
)
REVISION = re.compile(r"#[^/]*#/?")
TABLES = {".csv": ",", ".tsv": "\t", ".ssv": " "}
SUFFIXES = {".npy", ".pqt", *TABLES}
CLOCKS = ("times", "timestamps")
UNITS = {"position": "rad", "velocity": "rad/s", "dlc": "pixel", "lightningPose": "pixel"}
POSE = ("dlc", "lightningPose")
SURE = 0.9  # likelihood below which IBL takes a tracked point for lost
REGIONS = {
    "brainLocationAcronyms_ccf_2017": "location",
    "brainLocationIds_ccf_2017": "location_id",
}


def is_alf(path: Path) -> bool:
    """True for a file of an ALF session."""
    named = path.suffix in SUFFIXES and NAME.fullmatch(path.name)
    return bool(named and SESSION.search(path.as_posix()))


def session_of(path: str) -> str:
    """`subject_date_number` of the session that a file lies in.

    Raises:
        DataError: It lies in none.
    """
    return "_".join(_session(path).groups())


class Alf:
    """The files of one session, as `Contents`.

    Args:
        files: Those to look at; others in their folders are not.

    Attributes:
        name: Folder of the session, from the lab or the subject on.
    """

    def __init__(self, files: Sequence[Path]):
        self._objects: dict[str, dict[str, Path]] = defaultdict(dict)
        for path in sorted(files, key=_revision):  # the last revision counts
            key, attribute = _object(path)
            self._objects[key][attribute] = path
        self.kinds = {k: v for key in sorted(self._objects) for k, v in self._kinds(key).items()}
        session = _session(files[0].as_posix())
        self.name = session[0].rstrip("/")
        self.about = About(subject=session["subject"])

    def guess(self, path: str) -> str | None:
        """From what the object holds; samples are behaviour, but for tracked points."""
        modality = {"spikes": "spikes", "table": "trials", "instants": "pulses"}
        pose = path.rpartition(".")[2] in POSE
        return modality.get(self.kinds[path], "pose" if pose else "behavior")

    def read(self, path: str, card: SignalCard) -> Signal:
        """One signal, its times in seconds of the session's clock.

        Raises:
            DataError: It is not of the card's modality, or the files do not fit each other.
        """
        kind = self.kinds[path]
        needed = {"spikes": {"spikes"}, "table": {"trials"}, "instants": {"pulses"}}
        listed = {"spikes", "trials", "pulses"}
        if card.modality not in needed.get(kind, {card.modality} - listed):
            raise DataError(f"holds {kind}, which are no {card.modality}; mend the card")
        if kind == "spikes":
            return self._spikes(path)
        if kind == "samples":
            return self._samples(path, card.modality)
        start, stop, columns = self._table(path) if kind == "table" else self._instants(path)
        return read_marks(start, stop, columns, "event", card.modality, path)

    def close(self) -> None:
        """Nothing stays open: arrays are mapped, and let go with the signals."""

    def _kinds(self, key: str) -> dict[str, str]:
        """Paths and kinds of what an object holds."""
        attributes = self._objects[key]
        if {"times", "clusters"} <= attributes.keys():
            return {key: "spikes"}
        if {"table", "intervals"} & attributes.keys():
            return {key: "table"}
        if not set(CLOCKS) & attributes.keys():
            return {}  # a description of something else, such as clusters and channels
        values = [name for name in sorted(attributes) if name not in CLOCKS]
        return {f"{key}.{name}": "samples" for name in values} or {key: "instants"}

    def _spikes(self, key: str) -> Events:
        times = np.asarray(self._array(key, "times"), np.float64)
        clusters = np.asarray(self._array(key, "clusters"), np.int64)
        if len(times) != len(clusters):
            raise DataError(f"{len(times)} spike times but {len(clusters)} clusters")
        check_finite(times, "spikes.times")
        order = np.argsort(times, kind="stable")
        units = self._units(key.removesuffix("spikes"), int(clusters.max(initial=-1)) + 1)
        return Events(times[order], clusters[order], units, "spikes", key)

    def _units(self, collection: str, n: int) -> pd.DataFrame:
        """A row per cluster, those without spikes too, and the region of its channel."""
        clusters = self._columns(f"{collection}clusters")
        n = max([n, *(len(values) for values in clusters.values())])
        units = pd.DataFrame({"id": np.arange(n)})
        metrics = self._objects.get(f"{collection}clusters", {}).get("metrics")
        if metrics is not None:
            table = _load(metrics)
            table = table.set_index("cluster_id") if "cluster_id" in table else table
            units = units.join(table.drop(columns=["id"], errors="ignore"))
        for name, values in clusters.items():
            if len(values) == n:
                units[REGIONS.get(name, name)] = values
        for name, values in self._columns(f"{collection}channels").items():
            if name in REGIONS and "channels" in units:
                units[REGIONS[name]] = values[units["channels"].to_numpy(np.int64)]
        return units

    def _columns(self, key: str) -> dict[str, ndarray]:
        """The attributes of an object that have one value per row."""
        found = {}
        for name, path in self._objects.get(key, {}).items():
            values = np.asarray(_load(path).squeeze()) if name != "metrics" else np.zeros((0, 0))
            if values.ndim == 1:
                found[name] = values
        return found

    def _table(self, key: str) -> tuple[ndarray, ndarray, pd.DataFrame]:
        """Start and stop (s) of each row, and its columns."""
        parts = dict(self._objects[key])
        table = _load(parts.pop("table")) if "table" in parts else pd.DataFrame()
        for name, path in sorted(parts.items()):
            values = np.asarray(_load(path))
            if len(table) and len(values) != len(table):
                raise DataError(f"{path.name} has {len(values)} rows, others {len(table)}")
            names = [name] if values.ndim == 1 else [f"{name}_{k}" for k in range(values.shape[1])]
            for column, part in zip(names, values.reshape(len(values), -1).T, strict=True):
                table[column] = part
        if not {"intervals_0", "intervals_1"} <= set(table.columns):
            raise DataError(f"no start and stop: {key}.intervals is absent")
        start, stop = (table.pop(f"intervals_{k}").to_numpy(np.float64) for k in (0, 1))
        return start, stop, table.reset_index(drop=True)

    def _instants(self, key: str) -> tuple[ndarray, ndarray, pd.DataFrame]:
        times = np.asarray(self._array(key, *CLOCKS), np.float64)
        return times, times, pd.DataFrame({"event": [key] * len(times)}, dtype=object)

    def _samples(self, path: str, modality: str) -> Samples:
        key, _, attribute = path.rpartition(".")
        loaded = _load(self._objects[key][attribute])
        values, channels = _tracked(loaded) if isinstance(loaded, pd.DataFrame) else _plain(loaded)
        times = _every(self._array(key, *CLOCKS), values.shape[0])
        if len(times) != values.shape[0]:
            raise DataError(f"{values.shape[0]} samples but {len(times)} times")
        check_times(times, f"{key}.times")
        rate = even_rate(times)
        return Samples(
            Plain(values),
            UNITS.get(attribute, "1"),
            rate,
            0.0 if rate is None else float(times[0]),
            times if rate is None else None,
            None,
            channels,
            modality,
            path,
        )

    def _array(self, key: str, *names: str) -> Any:
        """The first attribute of these names that is there."""
        return _load(next(self._objects[key][name] for name in names if name in self._objects[key]))


def open_alf(files: Sequence[Path]) -> Alf:
    """The files of one ALF session, which lie here.

    Raises:
        DataError: They are of several sessions.
    """
    sessions = sorted({session_of(path.as_posix()) for path in files})
    if len(sessions) > 1:
        raise DataError(f"files of several sessions as one recording: {', '.join(sessions)}")
    return Alf(files)


def _session(path: str) -> re.Match[str]:
    found = SESSION.search(path)
    if found is None:
        raise DataError(f"{path} lies in no session `subject/YYYY-MM-DD/number/`")
    return found


def _object(path: Path) -> tuple[str, str]:
    """Folder in the session and object that a file belongs to, and its attribute."""
    folder = path.parent.as_posix() + "/"
    collection = REVISION.sub("", folder[_session(folder).end() :])
    name = NAME.fullmatch(path.name)
    if name is None:
        raise DataError(f"{path.name} is not named as ALF names files: object.attribute.npy")
    return f"{collection}{name['object']}{name['extra']}", name["attribute"]


def _revision(path: Path) -> tuple[str, str]:
    found = REVISION.search(path.as_posix())
    return (found[0] if found else "", path.as_posix())


def _load(path: Path) -> Any:
    """An array, mapped, or a table.

    Raises:
        DataError: It is damaged, or an array of Python objects, which is not read.
    """
    try:
        if path.suffix == ".npy":
            return np.load(path, mmap_mode="r", allow_pickle=False)
        if path.suffix == ".pqt":
            return pd.read_parquet(path)
        return pd.read_csv(path, sep=TABLES[path.suffix])
    except (ValueError, OSError) as error:
        raise DataError(f"{path.name} cannot be read: {error}") from error


def _every(times: ndarray, n: int) -> Float[ndarray, " time"]:
    """Time of each of n samples (s); ALF may store (sample, time) of a few to join by lines."""
    if times.ndim == 2:
        return np.interp(np.arange(n), times[:, 0], times[:, 1])
    return np.asarray(times, np.float64)


def _plain(values: ndarray) -> tuple[ndarray, pd.DataFrame]:
    n = int(np.prod(values.shape[1:]))
    return values, pd.DataFrame({"id": np.arange(n)})


def _tracked(table: pd.DataFrame) -> tuple[ndarray, pd.DataFrame]:
    """Columns of numbers; points that the tracker was not sure of are NaN."""
    table = table.select_dtypes("number").astype(np.float64)
    for column in [name for name in table if name.endswith("_likelihood")]:
        point = column.removesuffix("likelihood")
        lost = table.pop(column) < SURE
        table.loc[lost, [f"{point}x", f"{point}y"]] = np.nan
    labels = pd.DataFrame({"id": np.arange(table.shape[1]), "label": list(table.columns)})
    return table.to_numpy(), labels
