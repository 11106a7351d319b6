"""Neuropixels recordings of the Allen Institute, which keeps LFP in files of their own.

The file of a session, `…_ses-715093703.nwb`, sorts before those of its probes,
`…_ses-715093703_probe-810755797_ecephys.nwb`; the `allen` dialect puts them together.

    Siegle et al. 2021, Survey of spiking in the mouse visual system, Nature 592:86–92.
"""

import fnmatch
from typing import Literal

from neurofmx.data.sources.dandi import Dandiset

PROBE = "*_probe-*.nwb"


class AllenSource(Dandiset):
    """Visual Coding (000021, 000022) or Visual Behavior (000713).

    Attributes:
        lfp: Take the files of the probes too, about 2 GB each.
    """

    kind: Literal["allen"] = "allen"
    dandiset: Literal["000021", "000022", "000713"]  # type: ignore[assignment]
    lfp: bool = False

    def wants(self, path: str) -> bool:
        """Files of probes only where LFP is wanted."""
        return super().wants(path) and (self.lfp or not fnmatch.fnmatchcase(path, PROBE))
