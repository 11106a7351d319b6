"""What is particular to the files of a data set, where the neurodata types do not say it.

A dialect tells which files belong to one recording and mends what a signal's file has wrong.
"""

from neurofmx.data.dialects import allen, falcon, ibl, nlb
from neurofmx.data.dialects.base import Dialect, safe, session, stem
from neurofmx.data.readers.alf import session_of

DIALECTS: dict[str, Dialect] = {
    "plain": Dialect(),
    "ibl": Dialect(ibl.recording, ibl.mend, ibl.ignored),
    "allen": Dialect(session, allen.mend),
    "nlb": Dialect(mend=nlb.mend),
    "falcon": Dialect(mend=falcon.mend),
    "alf": Dialect(lambda path: safe(session_of(path))),
}

__all__ = ["DIALECTS", "Dialect", "safe", "session", "stem"]
