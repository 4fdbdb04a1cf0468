#!/usr/bin/env python3
"""Compares the exact reference with an independent one, bit for bit. Standard library only.

  compare_reference.py DRIVER [--dots N] [--seed S]

Dot products: N random and adversarial ones. The sum as f64 must be math.fsum's, the sum as f32 that of exact integer
arithmetic, rounded here. Whole FFNs: golden files that the driver writes are read, and y, y_staged, z, h and the active
units computed again with fractions. Exit status 1 when one bit differs.
"""
import argparse
import json
import math
import pathlib
import random
import struct
import subprocess
import sys
import tempfile
from fractions import Fraction


def f32(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def bits_of(value):
    return struct.unpack("<I", struct.pack("<f", value))[0]


def round_to_f32(value):
    """The float nearest to an exact Fraction, ties to even, as a Python float; overflow to infinity."""
    if value == 0:
        return 0.0
    sign, value = (-1, -value) if value < 0 else (1, value)
    # The exponent of the leading bit: bit lengths give it but for one.
    exponent = value.numerator.bit_length() - value.denominator.bit_length()
    if Fraction(2) ** exponent > value:
        exponent -= 1
    unit = max(exponent - 23, -149)
    scaled = value / Fraction(2) ** unit
    count, rest = divmod(scaled.numerator, scaled.denominator)
    twice = 2 * rest
    if twice > scaled.denominator or (twice == scaled.denominator and count % 2 == 1):
        count += 1
    if count.bit_length() + unit > 128:
        return sign * math.inf
    return sign * math.ldexp(count, unit)


# --- dot products -------------------------------------------------------------------------------------------------

LOWEST = 298  # products of floats are multiples of 2^-298


def as_integer(value, power):
    """value · 2^power, an integer."""
    numerator, denominator = value.as_integer_ratio()
    return numerator * ((1 << power) // denominator)


def random_float(rng, kind):
    while True:
        if kind == "any":
            value = f32(rng.getrandbits(32))
        elif kind == "subnormal":
            value = f32(rng.getrandbits(23) | rng.getrandbits(1) << 31)
        elif kind == "small":
            value = f32(bits_of(rng.gauss(0, 1) * 2.0 ** rng.randint(-80, -60)))
        else:
            value = f32(bits_of(rng.gauss(0, 1)))
        if math.isfinite(value):
            return value


def make_case(rng, number):
    """Pairs of floats, and one float to add: Gaussian, wide-ranging, tiny, or cancelling, some to an exact tie."""
    kind = ("normal", "any", "small", "subnormal", "cancelling", "tie")[number % 6]
    pairs = [(random_float(rng, kind), random_float(rng, kind)) for _ in range(rng.randint(1, 48))]
    extra = random_float(rng, kind)
    if kind == "cancelling":
        pairs += [(-a, b) for a, b in pairs[: len(pairs) - rng.randint(0, 2)]]
        rng.shuffle(pairs)
    if kind == "tie":
        # A float, plus or minus exactly half an ulp of it, plus or minus next to nothing.
        exponent = rng.randint(-100, 100)
        pairs = [(math.ldexp(2 ** 23 + rng.getrandbits(23), exponent - 23), 1.0),
                 (rng.choice((-1.0, 1.0)), math.ldexp(1.0, exponent - 24))]
        extra = rng.choice((0.0, 2.0 ** -149, -(2.0 ** -149), 2.0 ** -140))
        rng.shuffle(pairs)
    return pairs, extra


def expected_line(pairs, extra):
    total = sum(as_integer(a, 149) * as_integer(b, 149) for a, b in pairs) + as_integer(extra, LOWEST)
    single = round_to_f32(Fraction(total, 1 << LOWEST))
    if total < 0 and single == 0:
        single = -0.0
    double = math.fsum([a * b for a, b in pairs] + [extra])  # 48-bit products are exact in f64
    if double == 0:
        double = 0.0
    return f"{bits_of(single):08x} {struct.unpack('<Q', struct.pack('<d', double))[0]:016x}"


def compare_dots(driver, count, rng, folder):
    cases = [make_case(rng, n) for n in range(count)]
    words = []
    for pairs, extra in cases:
        words.append(struct.pack(f"<I{2 * len(pairs) + 1}f", len(pairs), *[v for pair in pairs for v in pair], extra))
    (folder / "dots").write_bytes(b"".join(words))
    lines = subprocess.run([driver, "dots", folder / "dots"], check=True, capture_output=True, text=True).stdout.split("\n")
    wrong = 0
    for number, (pairs, extra) in enumerate(cases):
        expected = expected_line(pairs, extra)
        if lines[number] != expected:
            wrong += 1
            if wrong <= 5:
                print(f"dot product {number}: {lines[number]}, expected {expected}; pairs {pairs}, plus {extra}")
    if len(lines) != count + 1:
        wrong += 1
        print(f"{len(lines) - 1} results for {count} dot products")
    print(f"dot products: {count} compared, {wrong} differ")
    return wrong


# --- whole FFNs ---------------------------------------------------------------------------------------------------


def read_safetensors(path):
    content = path.read_bytes()
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    metadata = header.pop("__metadata__", {})
    tensors = {}
    for name, entry in header.items():
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        data = content[begin:end]
        if entry["dtype"] == "F32":
            values = struct.unpack(f"<{len(data) // 4}f", data)
        elif entry["dtype"] == "BF16":
            values = tuple(f32(bits << 16) for bits in struct.unpack(f"<{len(data) // 2}H", data))
        else:
            values = tuple(data)
        tensors[name] = values
    return tensors, metadata


class Layer:
    """An FFN in fractions."""

    def __init__(self, tensors, metadata):
        self.tensors = tensors
        self.d, self.f = (int(n) for n in metadata["golden.shape"].split("x"))
        self.batch = int(metadata["golden.batch"])
        self.activation, _, threshold = metadata["activation"].partition(":")
        self.threshold = Fraction(struct.unpack("<f", struct.pack("<f", float(threshold)))[0]) if threshold else Fraction(0)
        self.gated = "gate.weight" in tensors

    def row(self, name, index, width):
        return [Fraction(v) for v in self.tensors[name][index * width : (index + 1) * width]]

    def sums(self, name, token):
        """The exact pre-activations of one token."""
        x = self.row("x", token, self.d)
        bias = self.tensors.get(f"{name}.bias", (0.0,) * self.f)
        weights = [self.row(f"{name}.weight", j, self.d) for j in range(self.f)]
        return [sum((a * b for a, b in zip(x, w)), Fraction(bias[j])) for j, w in enumerate(weights)]

    def open(self, z):
        return self.activation == "identity" or z > self.threshold

    def activate(self, z, rounding):
        if not self.open(z):
            return Fraction(0)
        return rounding(z * z) if self.activation == "relu2" else z

    def hidden(self, gate, up, rounding):
        if not self.gated:
            return self.activate(up, rounding)
        if self.activation == "drelu":
            return rounding(max(gate, Fraction(0)) * max(up, Fraction(0)))
        return rounding(self.activate(gate, rounding) * up)

    def output(self, h):
        bias = self.tensors.get("down.bias", (0.0,) * self.d)
        rows = [self.row("down.weight", column, self.f) for column in range(self.d)]
        return [sum((a * b for a, b in zip(h, w)), Fraction(bias[c])) for c, w in enumerate(rows)]

    def token(self, token):
        """z, h, active, y and y_staged of one token, rounded as the files have them."""
        nearest = lambda v: Fraction(round_to_f32(v))
        up = self.sums("up", token)
        gate = self.sums("gate", token) if self.gated else up
        exact = [self.hidden(g, u, lambda v: v) for g, u in zip(gate, up)]
        staged = [self.hidden(nearest(g), nearest(u), nearest) for g, u in zip(gate, up)]
        is_open = [self.open(g) and (self.activation != "drelu" or self.open(u)) for g, u in zip(gate, up)]
        return {"z": [round_to_f32(v) for v in gate], "h": [round_to_f32(v) for v in exact],
                "active": [int(v) for v in is_open], "y": [round_to_f32(v) for v in self.output(exact)],
                "y_staged": [round_to_f32(v) for v in self.output(staged)]}


def same(a, b):
    return a == b  # −0 and +0 are one value; there is no NaN in these sets


def compare_layer(path):
    tensors, metadata = read_safetensors(path)
    layer = Layer(tensors, metadata)
    wrong = compared = 0
    for token in range(layer.batch):
        for name, values in layer.token(token).items():
            written = tensors[name][token * len(values) : (token + 1) * len(values)]
            compared += len(values)
            for index, (got, expected) in enumerate(zip(written, values)):
                if not same(got, expected):
                    wrong += 1
                    print(f"{path.name} ({metadata}): {name}[{token}][{index}] is {got!r}, expected {expected!r}")
    return compared, wrong


def compare_layers(driver, seed, folder):
    names = subprocess.run([driver, "golden", folder, str(seed)], check=True, capture_output=True, text=True).stdout.split()
    compared = wrong = 0
    for name in names:
        more, differ = compare_layer(folder / name)
        compared += more
        wrong += differ
    print(f"FFNs: {len(names)} layers, {compared} values compared, {wrong} differ")
    return wrong + (not names)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("driver")
    parser.add_argument("--dots", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=20260321)
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        wrong = compare_dots(options.driver, options.dots, random.Random(options.seed), folder)
        wrong += compare_layers(options.driver, options.seed, folder)
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
