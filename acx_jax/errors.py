"""The two kinds of failure a user meets, by exit status."""


class UsageError(Exception):
    """A wrong flag, setting, path or data set: nothing was tried. Exit status 2."""


class WorkError(Exception):
    """Work that was started and could not be finished. Exit status 1."""
