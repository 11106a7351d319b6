"""`pytest --device cuda`: the tests that take a `device` run there; without it, on the CPU.

On a machine that has only what the model needs: `pytest --noconftest -p devices tests/models/
test_device.py`, with `tests` on PYTHONPATH.
"""

import pytest
import torch


def pytest_addoption(parser: pytest.Parser) -> None:
    """Where tests of the model run."""
    parser.addoption("--device", default="cpu", help="where tests of the model run: cpu, cuda")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> torch.device:
    """The device that was asked for, which has to be there."""
    asked = torch.device(request.config.getoption("--device"))
    if asked.type == "cuda" and not torch.cuda.is_available():
        pytest.fail("--device cuda, but torch finds no CUDA device here")
    return asked
