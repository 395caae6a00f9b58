"""The package's surface, and what its distribution names."""

import tomllib
from importlib import import_module
from pathlib import Path

import pytest

import figment_client

CLIENTS = Path(figment_client.__file__).parents[1]


def test_every_public_name_is_there() -> None:
    for name in figment_client.__all__:
        assert getattr(figment_client, name).__name__ == name
    assert set(figment_client.__all__) <= set(dir(figment_client))
    assert figment_client.__all__ == sorted(figment_client.__all__)


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="Clint"):
        figment_client.Clint  # noqa: B018


def test_the_distribution_names_modules_and_verbs_that_exist() -> None:
    project = tomllib.loads((CLIENTS / "pyproject.toml").read_text())
    for target in project["project"]["entry-points"]["figment.commands"].values():
        module, _, name = target.partition(":")
        assert callable(getattr(import_module(module), name))
    for package in project["tool"]["setuptools"]["packages"]:
        assert (CLIENTS / package / "py.typed").exists()
