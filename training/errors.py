"""Errors of training.

    TrainingError
      DataError         the images cannot be read or do not fit together
      RunFolderError    a run folder is missing, incomplete or already in use
      Diverged          a loss stopped being a finite number
      Stopped           somebody stopped a training, which can be continued

A TrainingError itself says that the machine lacks what was asked for. The person who started the training can put
each of them right.
"""


class TrainingError(Exception):
    """Something that the person who started the training can put right."""


class DataError(TrainingError):
    """The images cannot be read, or do not fit together."""


class RunFolderError(TrainingError):
    """A run folder is missing, incomplete, or already holds a run."""


class Diverged(TrainingError):
    """A loss stopped being a finite number."""


class Stopped(TrainingError):
    """Somebody stopped a training; its checkpoint says where."""
