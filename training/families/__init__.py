"""The families of models, by name: what each is shown, its losses, its phases.

A family is a module here, whose FAMILY is its object, and a name in FamilyName. Nothing else names one: whoever must know
asks `family`, which imports the module, and torch with it, on first use.
"""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Literal, get_args

if TYPE_CHECKING:
    from training.families.base import Family

FamilyName = Literal["vae", "gan", "hybrid"]


def family(name: str) -> "Family":
    """The family of that name."""
    found: Family = import_module(f"{__name__}.{name}").FAMILY
    return found


def names_where(is_so: "Callable[[Family], bool]") -> str:
    """Names of the families of which something is so, as messages list them."""
    return ", ".join(name for name in get_args(FamilyName) if is_so(family(name)))
