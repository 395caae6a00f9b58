"""Errors of the export.

ExportError
  ParityError     a graph does not do what the trained networks do
  BundleError     a bundle cannot be written
"""


class ExportError(Exception):
    """Nothing was published; the message says why."""


class ParityError(ExportError):
    """A graph does not do what the trained networks do; names the graph, the batch size and the figure."""


class BundleError(ExportError):
    """A bundle cannot be written."""
