"""Functions through torch.compile: the whole of one, or an error; nothing is quietly left out."""

from collections.abc import Callable
from functools import cache
from typing import Any

import torch

SHAPES = 64  # that one function may be compiled for in a process; beyond them it is refused


def through(function: Callable, compiled: bool) -> Callable:
    """The function itself, or compiled, anew for each shape that it is given."""
    return _once(function) if compiled else function


def step_through(step: Callable, compiled: bool) -> Callable:
    """A step of a stream, or the same compiled.

    Weights are taken as they are at the first call, and every branch on data is computed.
    """
    # Both shorten what lies between the kernels of a short step.
    return _compile(step, cpp_wrapper=True, freezing=True) if compiled else step


@cache
def _once(function: Callable) -> Callable:
    return _compile(function)


def _compile(function: Callable, **options: Any) -> Callable:
    limits = torch._dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, SHAPES)
    return torch.compile(function, dynamic=False, fullgraph=True, options=options or None)
