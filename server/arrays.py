"""Arrays as graphs take and give them: by name, rows first."""

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.generic]
Arrays = dict[str, Array]
"""Inputs or outputs of a graph by name; rows are the first axis."""
