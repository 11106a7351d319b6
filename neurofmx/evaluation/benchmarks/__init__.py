"""Public benchmarks, each scored by its own package: NLB, FALCON and MOABB."""

from importlib import import_module
from types import ModuleType

from neurofmx.errors import UserError


def extra(package: str) -> ModuleType:
    """A package of the extra `benchmarks`.

    Raises:
        UserError: It is not installed; says how to install it.
    """
    try:
        return import_module(package)
    except ModuleNotFoundError as error:
        if error.name != package.partition(".")[0]:
            raise
        raise UserError(
            f"this needs the package {error.name}: pip install 'neurofmx[benchmarks]'"
        ) from error
