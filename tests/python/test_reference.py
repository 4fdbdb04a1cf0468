"""The exact reference against rational numbers; bounds; distances."""

import math
from fractions import Fraction

import numpy as np
import pytest

import signsplit
from canonical import exact_token
from layers import as_lists, bits, random_layer


@pytest.mark.parametrize(
    "kind",
    [{}, {"dtype": "bf16"}, {"activation": "relu2"}, {"activation": "reglu", "gated": True}, {"biased": False}],
    ids=str,
)
def test_composite_is_the_rational_result_rounded_once(rng, kind):
    layer = random_layer(rng, 33, 17, **kind)
    x = rng.standard_normal((3, 33), dtype=np.float32)
    x[2] *= np.float32(2.0) ** rng.integers(-30, 30, 33)
    exact = signsplit.reference(signsplit.FFN.from_arrays(**layer), x)
    expected = np.stack([exact_token(token, as_lists(layer)) for token in x])
    assert np.array_equal(bits(exact.y), bits(expected))


def test_cancellation_is_exact():
    """Sums that any float arithmetic gets wrong: what is left is one unit in the last place of nothing else."""
    up = np.array([[2.0**60, 1.0, -(2.0**60), 2.0**-40]], dtype=np.float32)
    ffn = signsplit.FFN.from_arrays(up, np.ones((4, 1), np.float32))
    x = np.ones(4, np.float32)
    exact = signsplit.reference(ffn, x)
    assert exact.z.tolist() == [float(np.float32(Fraction(1) + Fraction(1, 2**40)))] == exact.y.tolist()[:1]
    assert ffn.run(x).tolist()[0] != exact.y.tolist()[0] or ffn.run(x, mask=True).mask.tolist() == [True]


def test_staged_rounds_every_stage(rng):
    layer = random_layer(rng, 40, 30)
    ffn = signsplit.FFN.from_arrays(**layer)
    x = rng.standard_normal((2, 40), dtype=np.float32)
    staged = signsplit.reference(ffn, x, "staged")
    assert np.array_equal(staged.h, np.maximum(staged.z, 0))
    # The second product of the rounded h alone, exactly: an identity layer with h for its input.
    second = signsplit.FFN.from_arrays(
        np.eye(30, dtype=np.float32),
        np.concatenate([layer["down"], np.zeros((0, 30), np.float32)])[:30],
        down_bias=layer["down_bias"][:30],
        activation="identity",
    )
    assert np.array_equal(bits(signsplit.reference(second, staged.h).y), bits(staged.y[:, :30]))


@pytest.mark.parametrize("kind", [{"activation": "gelu"}, {"activation": "swiglu", "gated": True}], ids=str)
def test_smooth_activations_have_a_staged_reference_only(rng, kind):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 40, 30, **kind))
    x = rng.standard_normal((2, 40), dtype=np.float32)
    staged = signsplit.reference(ffn, x, "staged")
    assert staged.active.all()
    assert signsplit.check(ffn.run(x), staged, 2 * signsplit.error_bound(ffn, x)).passed
    with pytest.raises(ValueError, match="use staged for activation " + kind["activation"]):
        signsplit.reference(ffn, x)
    with pytest.raises(ValueError, match="sign_split is not defined for the activation " + kind["activation"]):
        ffn.run(x, "sign_split")


SMOOTH = {
    "gelu": lambda z: z / 2 * math.erfc(-z / math.sqrt(2)),
    "gelu_tanh": lambda z: z / (1 + math.exp(-2 * math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z / (1 + math.exp(-z)),
}


@pytest.mark.parametrize(("name", "gated_name"), [("gelu", "geglu"), ("gelu_tanh", "geglu_tanh"), ("silu", "swiglu")])
def test_smooth_activations_are_the_functions_of_their_names(name, gated_name):
    """One hidden unit of weight 1: z is x, and h the function of it, here in float64, whose roundings can move h by one ulp."""
    x = np.linspace(-4, 4, 65, dtype=np.float32)[:, None]
    one = np.ones((1, 1), np.float32)
    for activation, gate in ((name, None), (gated_name, one)):
        ffn = signsplit.FFN.from_arrays(one, one, gate, activation=activation)
        assert ffn.activation == activation
        expected = np.array([[SMOOTH[name](float(z)) * (1 if gate is None else float(z))] for z in x[:, 0]]).astype(np.float32)
        assert signsplit.ulp_distance(signsplit.reference(ffn, x, "staged").h, expected).max() <= 1
        assert signsplit.ulp_distance(ffn.run(x), expected).max() <= 1 + (gate is not None)  # two roundings


def test_shapes_follow_x(rng):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 40, 30))
    x = rng.standard_normal((2, 40), dtype=np.float32)
    rows, one = signsplit.reference(ffn, x), signsplit.reference(ffn, x[0], threads=1)
    assert [a.shape for a in rows] == [(2, 40), (2, 30), (2, 30), (2, 30)]
    assert [a.shape for a in one] == [(40,), (30,), (30,), (30,)]
    assert np.array_equal(bits(one.y), bits(rows.y[0])) and np.array_equal(one.active, one.z > 0)
    assert signsplit.error_bound(ffn, x[0]).shape == (40,)


def test_every_plan_keeps_its_bound(rng):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 200, 100))
    x = rng.standard_normal((2, 200), dtype=np.float32)
    exact = signsplit.reference(ffn, x)
    for plan in (ffn.plan(), ffn.plan("unfused", skip=True), ffn.plan("sign_split", variant="streams")):
        assert signsplit.check(ffn.run(x, plan), exact, signsplit.error_bound(ffn, x, plan))
    broken = ffn.plan("sign_split", variant="ignore")
    assert not signsplit.check(ffn.run(x, broken), exact, signsplit.error_bound(ffn, x))


def test_wrong_mode(rng):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 8, 4))
    with pytest.raises(ValueError, match='mode "exact" is unknown'):
        signsplit.reference(ffn, np.zeros(8, np.float32), "exact")


def test_ulp_distance():
    one = np.float32(1)
    after = np.nextafter(one, np.float32(2))
    assert signsplit.ulp_distance(one, after) == 1
    assert signsplit.ulp_distance(1.0, 2.0) == 2**23
    assert signsplit.ulp_distance(0.0, -0.0) == 0 and signsplit.ulp_distance(float("nan"), float("nan")) == 0
    assert signsplit.ulp_distance(float("nan"), 1.0) == 2**64 - 1
    assert signsplit.ulp_distance(np.float32(2.0**-149), np.float32(-(2.0**-149))) == 2
    grid = signsplit.ulp_distance(np.array([[1.0], [2.0]], np.float32), np.array([1.0, after], np.float32))
    assert grid.tolist() == [[0, 1], [2**23, 2**23 - 1]]
    with pytest.raises(TypeError, match="a has dtype float64"):
        signsplit.ulp_distance(np.zeros(3), np.zeros(3))
