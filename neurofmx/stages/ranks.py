"""A rank of a stage that a launcher started: `python -m neurofmx.stages.ranks <stage>`."""

import sys
from importlib import import_module

from neurofmx.config import load_params
from neurofmx.errors import NeuroFMXError
from neurofmx.training import launch


def main(stage: str) -> None:
    """Train as one of many, and leave what goes wrong where the stage finds it."""
    try:
        module = import_module(f"neurofmx.stages.{stage}")
        module.train(load_params(stage, module.Params))
    except NeuroFMXError as error:
        launch.left_behind(error)
        sys.exit(error.exit_code)
    except Exception as error:
        launch.left_behind(NeuroFMXError(repr(error)))
        raise


if __name__ == "__main__":
    main(sys.argv[-1])
