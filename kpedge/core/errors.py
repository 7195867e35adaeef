"""Every exception that kpedge raises on purpose.

    KpedgeError                     exit code 1
    ├── UsageError                  2   arguments that cannot work together
    ├── MissingExtraError           1   an optional dependency is not installed
    ├── OutputError                 1   a file or folder cannot be written
    ├── ImageError                  1   an image is missing, unreadable or broken
    ├── SourceError                 1   a camera, video or stream cannot be read
    ├── DataError                   1   labels or a prepared set cannot be used
    │   ├── StaleSetError           1   a prepared set no longer fits its source
    │   ├── DownloadError           1   a file cannot be downloaded
    │   │   └── ChecksumError       3   what was downloaded is not what was promised
    │   └── ArchiveError            3   an archive is broken, or is not safe to unpack
    ├── TrainingError               1   training cannot start or go on
    └── ModelError                  1   a model cannot be used
        ├── CorruptModelError       3   a model file is broken, foreign or was changed
        └── ParityError             3   two forms of a model do not compute the same

A message says what is wrong and where; `advice` says what to do next. `kpedge.cli.main` turns both into one line on
standard error and the exit code into the process's own.
"""


class KpedgeError(Exception):
    """Base of all errors that kpedge raises on purpose: what is wrong, and where, and advice on what to do about it, if
    any.
    """

    exit_code = 1

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice
        if advice:
            self.__notes__ = [advice]  # what a traceback shows below the message, from Python 3.11 on


class UsageError(KpedgeError):
    """The arguments are valid one by one but cannot be used like this."""

    exit_code = 2


class MissingExtraError(KpedgeError):
    """A module of an optional extra is needed and not installed."""


class OutputError(KpedgeError):
    """A result cannot be written: no permission, a full disk, or a file that would be overwritten."""


class ImageError(KpedgeError):
    """An image is missing, cannot be decoded, or is cut off."""


class SourceError(KpedgeError):
    """A camera, video file or stream cannot be opened, or cannot be read any further."""


class DataError(KpedgeError):
    """Label files or a prepared set cannot be used."""


class StaleSetError(DataError):
    """A prepared set was made from other photos, labels or settings than those asked for now."""


class DownloadError(DataError):
    """A file cannot be downloaded."""


class ChecksumError(DownloadError):
    """What was downloaded is not what was promised."""

    exit_code = 3


class ArchiveError(DataError):
    """An archive is broken, or not one that can be unpacked safely."""

    exit_code = 3


class TrainingError(KpedgeError):
    """Training cannot start or cannot go on."""


class ModelError(KpedgeError):
    """A model file, checkpoint or card cannot be used."""


class CorruptModelError(ModelError):
    """A model file is broken, is not kpedge's, or is not what its card promises."""

    exit_code = 3


class ParityError(ModelError):
    """Two forms of one model differ in names, shapes or values."""

    exit_code = 3
