"""Kinds of failure, told apart by who can mend them.

A message says which thing, what it was, what was needed and what to do. The command line prints
it without a traceback and exits with the code of its kind; an orchestrator retries only a
`TransientError`. Any other exception is a slip of ours and keeps its traceback (exit code 1).
"""

import errno


class NeuroFMXError(Exception):
    """A failure whose message is meant for the user."""

    exit_code = 1


class UserError(NeuroFMXError):
    """A wrong path, key or choice: the user mends it."""

    exit_code = 2


class DataError(NeuroFMXError):
    """A recording that cannot be used as it is; in a stage it is quarantined with this reason."""

    exit_code = 3


class TransientError(NeuroFMXError):
    """A full disk or a lost connection: the same command, later, goes on where it stopped."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


class Preempted(TransientError):
    """Told to stop (SIGTERM), after saving: the same command goes on."""

    exit_code = 85  # what HTCondor and others requeue a job on that has saved its state


TRANSIENT_ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.EAGAIN, errno.ETIMEDOUT, errno.ENOMEM}


def is_transient(error: BaseException) -> bool:
    """True where waiting or freeing space, and not a change of data or code, mends the error."""
    if isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS:
        return True
    return isinstance(error, TransientError | ConnectionError | TimeoutError | MemoryError)
