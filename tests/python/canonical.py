"""The canonical evaluation and the exact one, written a third time and as plainly as can be: rational numbers, rounded
to float32 by hand. Slow, for tiny layers of finite numbers only."""

from fractions import Fraction

import numpy as np

ACCUMULATORS = 64


def to_f32(value: Fraction) -> float:
    """The nearest float32, ties to even; values that overflow are not meant to come here."""
    if value == 0:
        return 0.0
    exponent = max(_floor_log2(abs(value)), -126) - 23  # of the last place
    scaled = value / Fraction(2) ** exponent
    return float(Fraction(round(scaled)) * Fraction(2) ** exponent)  # round() of a Fraction ties to even


def _floor_log2(value: Fraction) -> int:
    guess = value.numerator.bit_length() - value.denominator.bit_length()
    return guess if Fraction(2) ** guess <= value else guess - 1


def fma(a: float, b: float, c: float) -> float:
    return to_f32(Fraction(a) * Fraction(b) + Fraction(c))


def add(a: float, b: float) -> float:
    return to_f32(Fraction(a) + Fraction(b))


def dot(x, w) -> float:
    """64 partial sums, element k in partial sum k mod 64, k ascending; then the upper half is folded onto the lower."""
    partial = [0.0] * ACCUMULATORS
    for k, (a, b) in enumerate(zip(x, w)):
        partial[k % ACCUMULATORS] = fma(a, b, partial[k % ACCUMULATORS])
    half = ACCUMULATORS // 2
    while half:
        for p in range(half):
            partial[p] = add(partial[p], partial[p + half])
        half //= 2
    return partial[0]


def activate(activation: str, z: float) -> float:
    if z <= 0:
        return 0.0
    return {"relu": z, "reglu": z, "relu2": to_f32(Fraction(z) ** 2)}[activation]


def part_ranges(d_ff: int, parts: int):
    base, longer = divmod(d_ff, parts)
    begin = 0
    for part in range(parts):
        end = begin + base + (part < longer)
        yield range(begin, end)
        begin = end


def canonical_token(x, layer: dict, parts: int) -> np.ndarray:
    """y [D] of unfused and row_fused plans. `layer` has the arguments of FFN.from_arrays, matrices as lists of floats."""
    up, down, activation = layer["up"], layer["down"], layer["activation"]
    sums = []
    for part in part_ranges(len(up), parts):
        y = [0.0] * len(x)
        for j in part:
            h = hidden(x, j, layer, activation)
            y = [fma(h, down[d][j], y[d]) for d in range(len(x))]
        sums.append(y)
    stride = 1
    while stride < parts:
        for i in range(0, parts - stride, 2 * stride):
            sums[i] = [add(a, b) for a, b in zip(sums[i], sums[i + stride])]
        stride *= 2
    bias = layer.get("down_bias")
    return np.array(sums[0] if bias is None else [add(a, b) for a, b in zip(sums[0], bias)], dtype=np.float32)


def hidden(x, j: int, layer: dict, activation: str) -> float:
    def pre_activation(matrix: str, bias: str) -> float:
        z = dot(x, layer[matrix][j])
        return z if layer.get(bias) is None else add(z, layer[bias][j])

    z = pre_activation("up", "up_bias")
    if layer.get("gate") is None:
        return activate(activation, z)
    open_gate = activate(activation, pre_activation("gate", "gate_bias"))
    return to_f32(Fraction(open_gate) * Fraction(z))


def exact_token(x, layer: dict) -> np.ndarray:
    """y [D], the real-number value of the whole FFN, rounded once."""
    x = [Fraction(float(v)) for v in x]
    y = [Fraction(0)] * len(x)
    for j in range(len(layer["up"])):
        h = exact_hidden(x, j, layer)
        y = [value + h * Fraction(row[j]) for value, row in zip(y, layer["down"])]
    if layer.get("down_bias") is not None:
        y = [value + Fraction(b) for value, b in zip(y, layer["down_bias"])]
    return np.array([to_f32(value) for value in y], dtype=np.float32)


def exact_hidden(x, j: int, layer: dict) -> Fraction:
    def pre_activation(matrix: str, bias: str) -> Fraction:
        z = sum(a * Fraction(b) for a, b in zip(x, layer[matrix][j]))
        return z + (Fraction(0) if layer.get(bias) is None else Fraction(layer[bias][j]))

    z = pre_activation("up", "up_bias")
    if layer.get("gate") is not None:
        return max(pre_activation("gate", "gate_bias"), Fraction(0)) * z
    return max(z, Fraction(0)) ** (2 if layer["activation"] == "relu2" else 1)
