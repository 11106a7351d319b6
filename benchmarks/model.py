"""Measure the model beside what others use and beside the machine's own limits, in one run.

    python benchmarks/model.py [train stream hour batch planted] [--device cpu|cuda] [--quick]

`train` gives tokens per second, forward and back, of our blocks along time (`models.py` has the
peers); `stream` what decoding one bin takes, `hour` whether it stays so over an hour of bins,
`batch` windows per second, `planted` how long 20M parameters take to learn a synthetic recording.
Figures go to benchmarks/model/results.csv, the machine and the sizes to machine.json beside it;
those of CUDA to benchmarks/model/cuda/.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

import model_planted
import model_stream
import model_train
from measuring import Section, run_sections
from runs import Run

RESULTS = Path(__file__).with_suffix("")
SECTIONS: dict[str, dict[str, Callable[[Section, Run], None]]] = {
    "cpu": {
        "train": model_train.measure,
        "stream": model_stream.measure_stream,
        "hour": model_stream.measure_hour,
        "batch": model_stream.measure_batch,
        "planted": model_planted.measure_planted,
    },
    "cuda": {"train": model_train.measure_cuda, "batch": model_stream.measure_cuda},
}
MARKS = {  # in README.md
    "cpu": ("<!-- model -->", "<!-- /model -->"),
    "cuda": ("<!-- model cuda -->", "<!-- /model cuda -->"),
}

if __name__ == "__main__":
    parser = argparse.ArgumentParser(add_help=False)
    parser.add_argument("--device", choices=list(SECTIONS), default="cpu")
    given, sys.argv[1:] = parser.parse_known_args()
    results = RESULTS if given.device == "cpu" else RESULTS / given.device
    run_sections(__doc__, SECTIONS[given.device], results, MARKS[given.device])
