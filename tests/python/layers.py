"""Random layers: arguments of FFN.from_arrays."""

import ml_dtypes
import numpy as np


def random_layer(rng, d_model, d_ff, *, dtype="f32", gated=False, activation="relu", biased=True):
    """Matrices of float32, bfloat16 or float16, biases of float32."""
    element = {"f32": np.float32, "bf16": ml_dtypes.bfloat16, "f16": np.float16}[dtype]

    def normal(*shape):
        return rng.standard_normal(shape, dtype=np.float32)

    layer = {"up": normal(d_ff, d_model).astype(element), "down": normal(d_model, d_ff).astype(element)}
    if gated:
        layer["gate"] = normal(d_ff, d_model).astype(element)
    if biased:
        layer["up_bias"], layer["down_bias"] = normal(d_ff), normal(d_model)
        if gated:
            layer["gate_bias"] = normal(d_ff)
    return {**layer, "activation": activation}


def as_lists(layer):
    """The same layer as Python floats, for the evaluations of canonical.py."""
    return {
        name: value if isinstance(value, str) else value.astype(np.float64).tolist() for name, value in layer.items()
    }


def bits(array):
    """The bit patterns of a float32 array: equal arrays of these are the same to the last bit, −0 and NaN too."""
    return np.ascontiguousarray(array).view(np.uint32)
