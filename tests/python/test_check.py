"""Checks: right outputs pass, and every kind of wrong one is found."""

import ml_dtypes
import numpy as np
import pytest

import signsplit
from layers import random_layer


@pytest.fixture
def case(rng):
    """(layer, x, exact result, bound)"""
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 96, 64))
    x = rng.standard_normal((3, 96), dtype=np.float32)
    return ffn, x, signsplit.reference(ffn, x), signsplit.error_bound(ffn, x)


def one_element(y, bound):
    y[2, 5] += np.float32(3) * np.float32(bound[2, 5])


def a_nan(y, bound):
    y[0, 0] = np.nan


def an_infinity(y, bound):
    y[1, 95] = np.inf


def a_sign(y, bound):
    y[1, 7] = -y[1, 7]


def a_dropped_tail(y, bound):
    y[-1, -3:] = 0


MUTATIONS = [one_element, a_nan, an_infinity, a_sign, a_dropped_tail]


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_mutations_are_found_with_a_bound(case, mutate):
    ffn, x, exact, bound = case
    y = ffn.run(x)
    assert signsplit.check(y, exact, bound)
    mutate(y, bound)
    assert not signsplit.check(y, exact, bound)
    assert not signsplit.check(y, exact.y, bound)


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_mutations_are_found_without_a_bound(case, mutate):
    _, _, exact, bound = case
    y = exact.y.copy()
    assert signsplit.check(y, exact)
    mutate(y, bound)
    assert not signsplit.check(y, exact)


@pytest.mark.parametrize("mutate", MUTATIONS)
def test_mutations_are_found_with_golden_data(case, mutate):
    ffn, x, _, bound = case
    golden = signsplit.Golden.make(ffn, x)
    y = ffn.run(x)
    assert signsplit.check(y, golden)
    mutate(y, golden.y_bound)
    report = signsplit.check(y, golden)
    assert not report and "FAILED" in str(report)


def test_one_ulp_is_found_without_a_bound(case):
    exact = case[2].y
    y = exact.copy()
    y[1, 2] = np.nextafter(y[1, 2], np.float32(np.inf))
    report = signsplit.check(y, exact)
    assert (report.passed, report.max_ulp, report.worst_index) == (False, 1, (1, 2))
    assert (report.elements, report.exact, report.outside) == (288, 287, 1)
    assert report.distribution[:3] == (287, 1, 0) and sum(report.distribution) == 288


def test_the_bound_and_half_an_ulp_are_the_limit():
    """1 + 2⁻²³ is one ulp off, half of which rounding may have made."""
    y, exact = np.array([1 + 2.0**-23], np.float32), np.ones(1, np.float32)
    assert signsplit.check(y, exact, np.array([2.0**-24]))
    assert not signsplit.check(y, exact, np.array([2.0**-24 * (1 - 2.0**-20)]))
    tiny = np.array([2.0**-149], np.float32)
    assert signsplit.check(tiny, np.zeros(1, np.float32), 2.0**-150)
    assert not signsplit.check(tiny, np.zeros(1, np.float32), 2.0**-151)


def test_what_is_not_finite():
    inf, nan = np.float32(np.inf), np.float32(np.nan)
    exact = np.array([inf, nan, 1.0, -inf], np.float32)
    report = signsplit.check(np.array([inf, nan, nan, inf], np.float32), exact, np.zeros(4))
    assert (report.nan_mismatches, report.inf_mismatches, report.outside) == (1, 1, 0)
    assert report.max_ulp == 2**64 - 1 and report.exact == 2
    assert report.distribution[-2:] == (1, 1)  # −∞ is 2³² − 2²⁴ floats from ∞; NaN
    overflow = signsplit.check(np.array([inf, nan, 5.0, 1.0], np.float32), exact, np.array([0, 0, np.inf, np.inf]))
    assert overflow.passed and overflow.unbounded == 2
    without_nan = signsplit.check(np.zeros(4, np.float32), exact, np.full(4, np.inf))
    assert not without_nan.passed and (without_nan.nan_mismatches, without_nan.unbounded) == (1, 3)


def test_a_bf16_output(case):
    ffn, x, exact, _ = case
    stored = exact.y.astype(ml_dtypes.bfloat16)
    assert signsplit.check(stored, signsplit.Golden.make(ffn, x))
    assert not signsplit.check(stored, exact)
    wrong = stored.copy()
    wrong[1, 1] *= ml_dtypes.bfloat16(1.5)
    assert not signsplit.check(wrong, signsplit.Golden.make(ffn, x))


@pytest.mark.parametrize("name", ["golden.safetensors", "golden"])
def test_golden_data_on_disk(case, tmp_path, name):
    ffn, x, exact, _ = case
    written = signsplit.Golden.make(ffn, x).write(tmp_path / name)
    assert written and all(file.exists() for file in written)
    golden = signsplit.Golden.read(tmp_path / name)
    assert np.array_equal(golden.y, exact.y) and np.array_equal(golden.x, x)
    assert np.array_equal(golden.y_staged, signsplit.reference(ffn, x, "staged").y)
    assert np.array_equal(golden.z, exact.z) and np.array_equal(golden.h, exact.h)
    assert golden.accumulation == "f32" and repr(golden.ffn) == repr(ffn)
    assert signsplit.check(ffn.run(x), tmp_path / name) and signsplit.check(ffn.run(x), str(tmp_path / name))


def test_a_hint(rng):
    layer = random_layer(rng, 96, 64)
    x = rng.standard_normal((3, 96), dtype=np.float32)
    golden = signsplit.Golden.make(signsplit.FFN.from_arrays(**layer), x)
    y = signsplit.FFN.from_arrays(**{**layer, "down_bias": None}).run(x)
    report = signsplit.check(y, golden)
    assert not report and report.cause == "missing_down_bias" and report.hint in str(report)
    assert signsplit.check(y, golden, hint=False).hint == ""


def test_what_does_not_fit(case):
    ffn, x, exact, bound = case
    for call, message in [
        (lambda: signsplit.check(exact.y[0], exact), r"output has shape \[96\], expected \[3, 96\]"),
        (lambda: signsplit.check(exact.y, exact, bound[0]), r"bound has shape \[96\]"),
        (lambda: signsplit.check(exact.y, exact, -bound), "negative or NaN"),
        (lambda: signsplit.check(exact.y, exact, bound * np.nan), "negative or NaN"),
        (lambda: signsplit.check(exact.y[:0], exact.y[:0]), "output is empty"),
        (lambda: signsplit.check(exact.y, signsplit.Golden.make(ffn, x), bound), "has bounds of its own"),
        (lambda: signsplit.check(exact.y.T, signsplit.Golden.make(ffn, x)), r"output has shape \[96, 3\]"),
        (lambda: signsplit.Golden.make(ffn, x, "f16"), 'accumulation "f16" is unknown'),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="output has dtype float64"):
        signsplit.check(exact.y.astype(np.float64), exact)
    with pytest.raises(FileNotFoundError):
        signsplit.check(exact.y, "no-such-file.safetensors")
