"""Stand-ins for what pickles of numpy arrays name: they take numbers and nothing else.

NumPy's own classes believe the state that a pickle hands them, down to flags that turn bytes into pointers.
"""
import re
from typing import Any

import numpy as np


class PickledType:
    """Stands for numpy.dtype: `value` is a type of plain numbers, or None for any other."""

    def __init__(self, name: Any, *_: Any) -> None:
        plain = isinstance(name, str) and re.fullmatch(r"[<>|=]?[fiub]\d{1,2}", name)
        self.value = np.dtype(name) if plain else None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        if self.value is not None and state[1] in ("<", ">"):
            self.value = self.value.newbyteorder(state[1])


class PickledArray:
    """Stands for numpy.ndarray: `value` is the array, or None where the pickle holds other things than numbers."""

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, fortran, content = state
        self.value = _array(content, dtype, shape, "F" if fortran else "C")


def _array(content: Any, dtype: Any, shape: Any, order: str) -> np.ndarray | None:
    if not isinstance(content, (bytes, bytearray)) or not isinstance(dtype, PickledType) or dtype.value is None:
        return None
    return np.frombuffer(content, dtype.value).reshape(shape, order=order)


def _from_buffer(content: Any, dtype: Any, shape: Any, order: Any) -> PickledArray:
    """How the newest pickles keep arrays."""
    made = PickledArray()
    made.value = _array(content, dtype, shape, "F" if order == "F" else "C")
    return made


def names() -> dict[str, Any]:
    """What pickles of arrays may name, made anew for each file: a pickle can set attributes of a function that it was given."""
    return {
        "numpy.ndarray": PickledArray, "numpy.dtype": PickledType,
        **{f"numpy.{core}.multiarray._reconstruct": lambda *_: PickledArray() for core in ("core", "_core")},
        **{f"numpy.{core}.multiarray.scalar": lambda *_: None for core in ("core", "_core")},
        **{f"numpy.{core}.numeric._frombuffer": lambda *parts: _from_buffer(*parts) for core in ("core", "_core")},
    }
