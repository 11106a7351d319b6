"""Write an NWB file so that equal content gives equal bytes.

pynwb gives each object a random id. Here an object's id follows from the file's identifier and
the object's place in the file; the dates are the caller's.
"""

import io
import os
import uuid
from pathlib import Path
from typing import Any

import h5py
from hdmf.build import Builder, GroupBuilder
from pynwb import NWBHDF5IO, NWBFile


def write_nwb(nwb: NWBFile, path: Path) -> None:
    """Write a file that fits in memory, all or nothing.

    Args:
        nwb: With `identifier` and `file_create_date` set, so that its bytes can be repeated.
        path: Its folder is made; an older file is replaced.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()  # HDF5 reports a full disk as a RuntimeError, a plain write tells it
    with h5py.File(buffer, "w") as file, _RepeatableIO(file=file, mode="w") as out:
        out.write(nwb)
    temporary = path.with_name(f".{path.stem}.tmp.nwb")
    temporary.write_bytes(buffer.getbuffer())
    os.replace(temporary, path)


class _RepeatableIO(NWBHDF5IO):
    def write_builder(self, builder: GroupBuilder, **options: Any) -> None:
        """Name every object by its place, then write."""
        _name_objects(builder, builder.datasets["identifier"].data)
        super().write_builder(builder, **options)


def _name_objects(builder: Builder, identifier: str) -> None:
    if "object_id" in builder.attributes:
        name = f"{identifier}/{builder.path}"
        builder.attributes["object_id"] = str(uuid.uuid5(uuid.NAMESPACE_URL, name))
    if isinstance(builder, GroupBuilder):
        for part in (*builder.groups.values(), *builder.datasets.values()):
            _name_objects(part, identifier)
