"""Errors of the export.

    ExportError
      ParityError       a graph does not do what the trained networks do
      VariantRefused    a lossy variant is not worth it, or draws images of another quality
      MeasurementError  a graph cannot be run here to be measured
      ImportRefused     an ONNX file is not a generator or autoencoder that can be served
      BundleError       a bundle cannot be written or read

Whichever leaves the package, nothing was published; VariantRefused does not: a bundle does without the variant.
"""


class ExportError(Exception):
    """The export stopped; the message says why."""


class ParityError(ExportError):
    """A graph does not do what the trained networks do; names the graph, the batch size and the figure."""


class VariantRefused(ExportError):
    """A lossy variant is not worth it, or draws images of another quality; names the graph and the figures."""


class MeasurementError(ExportError):
    """A graph cannot be run here to be measured; names the graph and the provider."""


class ImportRefused(ExportError):
    """An ONNX file is not a generator or autoencoder that can be served; says what came and what is allowed."""


class BundleError(ExportError):
    """A bundle cannot be written or read."""


def first_line(error: Exception) -> str:
    """What a library says, without its files, colours and stacks."""
    text = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return text.strip()[:300]
