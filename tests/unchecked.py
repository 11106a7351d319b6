"""Run what torch.compile has to see whole without the checks of shapes that tests are run with."""

import subprocess
import sys
from pathlib import Path


def in_own_process(file: str, call: str) -> None:
    """Call a function of a test file in a process of its own; fails where it does."""
    path = Path(file)
    code = (
        f"import sys; sys.path.insert(0, {str(Path(__file__).parent)!r}); import {path.stem} as t"
    )
    subprocess.run([sys.executable, "-c", f"{code}; t.{call}"], cwd=path.parent, check=True)
