"""FALCON's entry point in a container: a run of ours answers the files that are mounted.

The environment says what: CARD (falcon_h1, falcon_m1 or falcon_m2), PHASE (minival or test),
EVALUATION_LOC (remote on FALCON's server, local elsewhere), BATCH_SIZE (files side by side), and
EVAL_DATA_PATH. The working directory holds `datasets/` and `storage/`.
"""

import json
import os
import sys
from pathlib import Path

from neurofmx.data.cards import load_card
from neurofmx.errors import NeuroFMXError
from neurofmx.evaluation.benchmarks import falcon


def main() -> None:
    """Decode, and print the scores where they are not the server's secret."""
    setting = os.environ.get
    sessions = falcon.Sessions(load_card(os.environ["CARD"]), Path("storage"))
    scores = falcon.evaluate(
        sessions,
        Path(setting("EVAL_DATA_PATH", "/dataset/evaluation_data")),
        phase=setting("PHASE", "minival"),
        batch_size=int(setting("BATCH_SIZE", "1")),
        remote=setting("EVALUATION_LOC", "local") == "remote",
        out=Path(setting("OUT", "/tmp")),
    )
    print(json.dumps(scores))


if __name__ == "__main__":
    try:
        main()
    except NeuroFMXError as error:
        sys.exit(f"error: {error}")
