"""What comes in: numpy arrays, and tensors of other frameworks through DLPack, as C-contiguous numpy arrays.

bf16 stays bf16 and f16 f16, as uint16 bits, so that neither ml_dtypes nor the framework need be imported here.
"""

from __future__ import annotations

from typing import Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt

from . import _native

_CPU = 1  # kDLCPU
_DTYPES = {"float32": "f32", "bfloat16": "bf16", "float16": "f16"}


class Typed(NamedTuple):
    """An array and the type of its elements: "f32" (float32), or "bf16" or "f16" (held as uint16)."""

    values: npt.NDArray[Any]
    dtype: str


def typed(name: str, value: Any) -> Typed:
    """The f32, bf16 or f16 array that `value` is, without a copy where its layout allows; TypeError for other elements."""
    if isinstance(value, Typed):
        found = value
    elif isinstance(value, np.ndarray):
        found = _from_numpy(value)
    else:
        found = _from_other(name, value)
    if found.dtype not in _DTYPES.values():
        raise TypeError(
            f"{name} has dtype {found.dtype}, expected float32, bfloat16 or float16; "
            "float64 is rounded by .astype(numpy.float32)"
        )
    return Typed(np.require(found.values, requirements=["C", "A"]), found.dtype)


def _from_numpy(array: npt.NDArray[Any]) -> Typed:
    dtype = _DTYPES.get(array.dtype.name, array.dtype.name)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    return Typed(array.view(np.uint16) if dtype in ("bf16", "f16") else array, dtype)


def _from_other(name: str, value: Any) -> Typed:
    """A torch, JAX or other tensor on the CPU; anything else as numpy sees it."""
    if hasattr(value, "detach"):  # a torch tensor that asks for gradients would not be handed out
        value = value.detach()
    if not hasattr(value, "__dlpack__"):
        return _from_numpy(np.asarray(value))
    if value.__dlpack_device__()[0] != _CPU:
        raise ValueError(f"{name} is not in the memory of the CPU: move it there first")
    view, dtype = _native.view_tensor(value)
    return Typed(np.empty(0) if view is None else view, dtype)


def widen(found: Typed) -> npt.NDArray[np.float32]:
    """The elements as float32, exactly."""
    bits = found.values
    if found.dtype == "f32":
        return bits
    if found.dtype == "f16":
        return bits.view(np.float16).astype(np.float32)
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def floats(name: str, value: Any) -> npt.NDArray[np.float32]:
    """`value` as float32, C-contiguous; 16-bit types are widened."""
    return widen(typed(name, value))


class Tokens(NamedTuple):
    """x as [N, D], and whether it came as [D]: results then lose their first axis too."""

    rows: npt.NDArray[np.float32]
    single: bool

    def shaped(self, result: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """A result [N, ...] in the form in which x came."""
        return result[0] if self.single else result


def tokens(x: Any, d_model: int) -> Tokens:
    """x [D] or [N, D]; a float32 C-contiguous one is not copied."""
    values = floats("x", x)
    if values.ndim not in (1, 2) or values.shape[-1] != d_model or values.size == 0:
        raise ValueError(f"x has shape {list(values.shape)}, expected [{d_model}] or [N, {d_model}] with N at least 1")
    return Tokens(values.reshape(-1, d_model), values.ndim == 1)


def matrix(name: str, value: Any, shape: tuple[Optional[int], Optional[int]], dtype: Optional[str], extents: str) -> Typed:
    """A matrix of weights with the given extents (None: any) and element type (None: any)."""
    found = typed(name, value)
    actual = found.values.shape
    if len(actual) != 2 or any(want is not None and want != have for want, have in zip(shape, actual)) or 0 in actual:
        expected = extents if None in shape else f"{extents} = {list(shape)}, as up has it"
        raise ValueError(f"{name} has shape {list(actual)}, expected {expected}")
    if dtype is not None and found.dtype != dtype:
        raise TypeError(f"{name} has elements {found.dtype}, and up has {dtype}: all matrices must have one type")
    return found


def bias(name: str, value: Any, length: int, extent: str) -> Optional[npt.NDArray[np.float32]]:
    """A bias of `length` elements as float32, or None."""
    if value is None:
        return None
    values = floats(name, value)
    if values.shape != (length,):
        raise ValueError(f"{name} has shape {list(values.shape)}, expected [{extent}] = [{length}]")
    return values
