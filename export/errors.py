"""Errors of the export.

    ExportError
      ParityError     a graph does not do what the trained networks do
      BundleError     a bundle cannot be written

Whichever is raised, nothing was published.
"""


class ExportError(Exception):
    """The export stopped; the message says why."""


class ParityError(ExportError):
    """A graph does not do what the trained networks do; names the graph, the batch size and the figure."""


class BundleError(ExportError):
    """A bundle cannot be written."""
