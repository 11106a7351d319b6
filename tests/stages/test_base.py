import subprocess
import sys

import numpy as np

from neurofmx.stages import base

PEAK = "from neurofmx.stages import base; print(base._peak_kib())"


def test_peak_memory_is_that_of_the_stage_and_not_of_who_started_it():
    large = np.ones(200_000_000)  # 1.6 GB that the child must not count as its own
    done = subprocess.run([sys.executable, "-c", PEAK], capture_output=True, text=True, check=True)

    assert 50 * 1024 < int(done.stdout) < 1000 * 1024
    assert base._peak_kib() > large.nbytes / 1024
