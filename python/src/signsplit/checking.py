"""Is the output of a kernel right? Compared with golden data, or with an exact result and bounds."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from typing import Any, Optional, Union

import numpy as np
import numpy.typing as npt

from . import _native, arrays
from .ffn import FFN, Path
from .reference import Reference, ulp_distance

_NAN_ULPS = 2**64 - 1
_BUCKETS = 34


@dataclasses.dataclass(frozen=True)
class CheckReport:
    """How an output compares with what it should be. True in a condition when the check passed.

    passed          every element is within its bound, and NaN and ∞ are where they belong
    within_bound    no finite element is outside its bound
    max_ulp         largest distance to the exact value, in floats; 2⁶⁴ − 1 for a NaN against a number
    worst_index     the element that breaks its bound most, or of all that keep it comes closest
    worst_ratio     its error over what is allowed; inf for an error where none is
    elements, exact, outside        how many there are, are equal to the exact values, are outside their bounds
    nan_mismatches, inf_mismatches  NaN or ∞ on one side only
    unbounded       elements whose computation may overflow: any number passes
    distribution    elements by ulps: [0] none, [i] from 2^(i−1) to 2^i − 1, the last one NaN against a number
    where           the pattern of wrong elements in words (golden data only)
    cause, hint     the likely cause, as a name and a sentence (golden data only)
    """

    passed: bool
    within_bound: bool
    max_ulp: int
    worst_index: tuple[int, ...]
    worst_ratio: float
    elements: int
    exact: int
    outside: int
    nan_mismatches: int
    inf_mismatches: int
    unbounded: int
    distribution: tuple[int, ...]
    where: str = ""
    cause: str = "none"
    hint: str = ""

    def __bool__(self) -> bool:
        return self.passed

    def __str__(self) -> str:
        wrong = self.outside + self.nan_mismatches + self.inf_mismatches
        found = "passed" if self.passed else f"FAILED, {wrong} of {self.elements} elements are wrong"
        most = "a NaN against a number" if self.max_ulp == _NAN_ULPS else f"at most {self.max_ulp} ulp"
        worst = ", ".join(map(str, self.worst_index))
        lines = [
            f"{found}: {self.exact} of {self.elements} exact, {most}; "
            f"worst [{worst}] at {self.worst_ratio:.3g} of its bound"
        ]
        return "\n".join(lines + [text for text in (self.where, self.hint) if text])


class Golden:
    """A layer, inputs, exact outputs and their bounds: what `signsplit golden` writes."""

    def __init__(self, native: _native.Golden) -> None:
        self._native = native

    @staticmethod
    def read(path: Path) -> Golden:
        """Reads a .safetensors file or a folder of `signsplit golden`."""
        return Golden(_native.Golden.read(path))

    @staticmethod
    def make(ffn: FFN, x: Any, accumulation: str = "f32", *, threads: int = 0) -> Golden:
        """Computes golden data for x [N, D]. The bounds are for kernels that accumulate in this arithmetic, in any order:
        "f32", "f64", or "bf16-activations" (x and h rounded to bf16, sums in f32)."""
        return Golden(_native.Golden.make(ffn._layer, arrays.tokens(x, ffn.shape[0]).rows, accumulation, threads))

    def write(self, path: Path) -> list[pathlib.Path]:
        """Writes one file when the name ends in .safetensors, else a folder with .npy files too. Returns the files."""
        return self._native.write(path)

    @property
    def ffn(self) -> FFN:
        """The layer."""
        return FFN(self._native.layer())

    @property
    def x(self) -> npt.NDArray[np.float32]:
        """[N, D] inputs; this and the other arrays are copies."""
        return self._native.x()

    @property
    def y(self) -> npt.NDArray[np.float32]:
        """[N, D] the real-number results, rounded once."""
        return self._native.y()

    @property
    def y_staged(self) -> npt.NDArray[np.float32]:
        """[N, D] with z, h and y each correctly rounded."""
        return self._native.y_staged()

    @property
    def y_bound(self) -> npt.NDArray[np.float32]:
        """[N, D] how far from y a correct kernel can be."""
        return self._native.y_bound()

    @property
    def z(self) -> npt.NDArray[np.float32]:
        """[N, F] pre-activations."""
        return self._native.z()

    @property
    def h(self) -> npt.NDArray[np.float32]:
        """[N, F] hidden activations."""
        return self._native.h()

    @property
    def accumulation(self) -> str:
        """The arithmetic that the bounds are for."""
        return self._native.accumulation


def check(
    output: Any,
    golden: Union[Golden, Reference, Path, Any],
    bound: Any = None,
    *,
    hint: bool = True,
    threads: int = 0,
) -> CheckReport:
    """Compares the output y of any kernel with what it should be.

    golden   a Golden, or the path of one: its own bounds count, and a failure is looked into for its likely cause
             (`hint`). A bfloat16 output may then be off by its rounding, too.
             Or an exact result of output's shape: a Reference (mode "composite") or float32 values.
    bound    with an exact result: what an element may be off before rounding, for instance of error_bound; half an ulp of
             the exact value comes on top. None: only equal elements pass.
    """
    if isinstance(golden, (str, os.PathLike)):
        golden = Golden.read(golden)
    found = arrays.typed("output", output)
    values = arrays.widen(found)
    if values.size == 0:
        raise ValueError("output is empty: a check of nothing would pass")
    if isinstance(golden, Golden):
        if bound is not None:
            raise ValueError("bound is given, and golden data has bounds of its own")
        return _check_golden(golden, values, found.dtype == "bf16", hint, threads)
    exact = arrays.floats("golden", golden.y if isinstance(golden, Reference) else golden)
    if values.shape != exact.shape:
        raise ValueError(f"output has shape {list(values.shape)}, expected {list(exact.shape)} as golden has it")
    return _check_exact(values, exact, _bounds(bound, exact))


def _check_golden(
    golden: Golden, values: npt.NDArray[np.float32], bf16_output: bool, hint: bool, threads: int
) -> CheckReport:
    shape = golden.y.shape
    if values.shape != shape and not (shape[0] == 1 and values.shape == shape[1:]):
        raise ValueError(f"output has shape {list(values.shape)}, expected {list(shape)} as golden has it")
    report = golden._native.check(values.reshape(-1), bf16_output, hint, threads)
    return CheckReport(**{**report, "worst_index": _index(report["worst_index"], values.shape)})


def _bounds(bound: Any, exact: npt.NDArray[np.float32]) -> Optional[npt.NDArray[np.float64]]:
    """What |output − exact| may be: the bound, and what rounding moved the exact value."""
    if bound is None:
        return None
    given = np.asarray(bound, dtype=np.float64)
    if given.shape not in ((), exact.shape):
        raise ValueError(f"bound has shape {list(given.shape)}, expected {list(exact.shape)} or a number")
    if not np.all(given >= 0):  # false for a NaN, too
        raise ValueError("bound has a value that is negative or NaN")
    finite = np.where(np.isfinite(exact), exact, np.float32(0)).astype(np.float64)
    _, exponent = np.frexp(np.maximum(np.abs(finite), 2.0**-126))  # exact values are m·2^exponent, ½ ≤ m < 1
    half_ulp: npt.NDArray[np.float64] = np.ldexp(1.0, exponent - 25)
    return given + half_ulp


def _check_exact(
    values: npt.NDArray[np.float32], exact: npt.NDArray[np.float32], bounds: Optional[npt.NDArray[np.float64]]
) -> CheckReport:
    ulps = np.asarray(ulp_distance(values.reshape(-1), exact.reshape(-1))).reshape(values.shape)
    allowed = np.zeros(values.shape) if bounds is None else bounds
    nan = np.isnan(values) != np.isnan(exact)
    unbounded = np.isinf(allowed) & ~np.isnan(exact)
    infinite = ~nan & ~unbounded & (np.isinf(values) | np.isinf(exact)) & (values != exact)
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        error = np.abs(values.astype(np.float64) - exact.astype(np.float64))
        ratio = np.where(error > 0, error / allowed, 0.0)
    ratio = np.where((ulps == 0) | unbounded, 0.0, ratio)
    # The allowance rounds: 2⁻⁵⁰ more than one is still inside.
    outside = ~nan & ~infinite & (ratio > 1.0 + 2.0**-50)
    ratio = np.where(nan | infinite, np.inf, ratio)
    wrong = nan | infinite | outside
    return CheckReport(
        passed=not wrong.any(),
        within_bound=not outside.any(),
        max_ulp=int(ulps.max()),
        worst_index=_index(int(np.argmax(ratio)), values.shape),
        worst_ratio=float(ratio.max()),
        elements=values.size,
        exact=int(np.count_nonzero(ulps == 0)),
        outside=int(np.count_nonzero(outside)),
        nan_mismatches=int(np.count_nonzero(nan)),
        inf_mismatches=int(np.count_nonzero(infinite)),
        unbounded=int(np.count_nonzero(unbounded)),
        distribution=_distribution(ulps),
        where="",
        cause="unknown" if wrong.any() else "none",
    )


def _distribution(ulps: npt.NDArray[np.uint64]) -> tuple[int, ...]:
    counts = [0] * _BUCKETS
    distances, how_often = np.unique(ulps, return_counts=True)
    for distance, count in zip(distances.tolist(), how_often.tolist()):
        counts[min(distance.bit_length(), _BUCKETS - 1)] += count
    return tuple(counts)


def _index(flat: int, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(i) for i in np.unravel_index(flat, shape))
