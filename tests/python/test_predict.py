"""Predictions."""

import json

import pytest

import signsplit


def test_cases_and_decision():
    answer = signsplit.predict((2048, 8192), hardware="avx2-laptop", active=0.05)
    labels = [case["label"] for case in answer["cases"]]
    assert len(set(labels)) == len(labels) and {"unfused", "row_fused", "row_fused+skip"} <= set(labels)
    for case in answer["cases"]:
        assert 0 < case["low_s"] <= case["time_s"] <= case["high_s"]
        assert set(case) >= {"strategy", "variant", "repair", "skip", "terms", "bytes"}
    assert answer["decision"]["verdict"] in ("fuse", "keep unfused", "too close to call")


def test_only_the_plans_asked_for():
    plan = signsplit.Plan.default((512, 2048), "unfused")
    answer = signsplit.predict((512, 2048), hardware="avx2-laptop", plans=["row_fused+skip", plan])
    assert [case["label"] for case in answer["cases"]] == ["row_fused+skip", "unfused"]


def test_a_model_brings_its_shape_and_activity():
    by_name = signsplit.predict(model="opt-6.7b", hardware="avx2-laptop")
    zeros = signsplit._native.find_model("opt-6.7b")["reported_zeros"]
    assert 0.5 < zeros < 1 and "opt-6.7b" in signsplit.models()
    assert by_name == signsplit.predict((4096, 16384), hardware="avx2-laptop", active=1 - zeros)
    assert by_name != signsplit.predict(model="opt-6.7b", hardware="avx2-laptop", active=0.5)


def test_an_activation_that_closes_no_unit():
    for name, gated in (("gelu", False), ("swiglu", True)):
        answer = signsplit.predict((512, 2048), hardware="avx2-laptop", activation=name, gated=gated)
        assert {case["strategy"] for case in answer["cases"]} == {"unfused", "row_fused"}
        assert {case["bytes"]["bytes_down"] for case in answer["cases"]} == {2 * 512 * 2048}  # every row, skip or not
        with pytest.raises(ValueError, match=f'"active" must be 1 for {name}'):
            signsplit.predict((512, 2048), hardware="avx2-laptop", activation=name, gated=gated, active=0.1)
    assert {case["strategy"] for case in signsplit.predict(model="llama-3-8b", hardware="h200")["cases"]} == {"unfused", "row_fused"}


def test_predicted_bytes_are_the_bytes_of_a_run(rng):
    from layers import random_layer

    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 256, 512, dtype="bf16"))
    seen = ffn.run(rng.standard_normal(256, dtype="float32"), return_stats=True).stats
    answer = signsplit.predict(ffn.shape, dtype=ffn.dtype, hardware="avx2-laptop", plans=[ffn.plan()])
    for name in ("bytes_up", "bytes_down", "bytes_x", "bytes_y", "tiles"):
        assert answer["cases"][0]["bytes"][name] == seen[name]


def test_a_profile_of_ones_own(tmp_path):
    with pytest.raises(FileNotFoundError, match="mine.json: no such file"):
        signsplit.predict((64, 64), hardware=tmp_path / "mine.json")
    (tmp_path / "mine.json").write_text(json.dumps({"name": "mine"}))
    with pytest.raises(ValueError, match="mine.json"):
        signsplit.predict((64, 64), hardware=tmp_path / "mine.json")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({}, ValueError, "needs a shape"),
        ({"shape": (64, 64), "model": "opt-6.7b"}, ValueError, "not both"),
        ({"model": "gpt"}, LookupError, 'model "gpt" is unknown'),
        ({"shape": (64, 0)}, ValueError, "d_ff"),
        ({"shape": (64, 64), "hardware": "abacus"}, LookupError, 'unknown hardware "abacus"'),
        ({"shape": (64, 64), "active": 2.0}, ValueError, "active"),
        ({"shape": (64, 64), "dtype": "f8"}, ValueError, "dtype"),
        ({"shape": (64, 64), "residency": "hot"}, ValueError, "residency"),
        ({"shape": (64, 64), "plans": ["fast"]}, ValueError, 'unknown plan "fast"'),
    ],
)
def test_wrong_questions(arguments, error, message):
    with pytest.raises(error, match=message):
        signsplit.predict(**arguments)
