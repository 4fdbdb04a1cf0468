"""A tensor of no framework, handed out by the DLPack protocol alone: for element types that numpy does not hand out."""

import ctypes

import numpy as np

_CPU, _FLOAT, _BFLOAT = 1, 2, 4


class _Device(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class _DType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _DType),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    _fields_ = [("tensor", _Tensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class DlpackTensor:
    """Hands out the memory of a numpy array, of any strides, as bf16 ("bfloat16", held as uint16) or f16 or f32."""

    def __init__(self, array, dtype, device=_CPU):
        code = {"bfloat16": _BFLOAT, "float16": _FLOAT, "float32": _FLOAT}[dtype]
        self._array, self._device = array, device
        extents = ctypes.c_int64 * array.ndim
        self._shape = extents(*array.shape)
        self._strides = extents(*(stride // array.itemsize for stride in array.strides))
        self._managed = _Managed(
            _Tensor(
                array.ctypes.data, _Device(device, 0), array.ndim, _DType(code, 8 * array.itemsize, 1),
                self._shape, self._strides, 0,
            ),
            None,
            None,
        )

    def __dlpack_device__(self):
        return self._device, 0

    def __dlpack__(self, **_):
        new_capsule = ctypes.pythonapi.PyCapsule_New
        new_capsule.restype = ctypes.py_object
        new_capsule.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        return new_capsule(ctypes.addressof(self._managed), b"dltensor", None)


def bfloat16_tensor(array):
    """A numpy array of ml_dtypes.bfloat16 as a tensor of no framework."""
    return DlpackTensor(array.view(np.uint16), "bfloat16")
