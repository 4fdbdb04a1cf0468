"""Plans: JSON, defaults, rules."""

import json

import pytest

from layers import random_layer
from signsplit import FFN, Plan


def test_json_there_and_back():
    plan = Plan.default((512, 2048), "sign_split", variant="streams", repair="redo", skip=True)
    assert Plan.from_json(plan.to_json()) == plan and hash(Plan.from_json(plan.to_json())) == hash(plan)
    assert list(json.loads(plan.to_json())) == [
        "strategy", "variant", "repair", "skip", "launch", "accumulators", "parts", "hidden_tile", "k_tile", "reduce_tile",
        "plane_bits", "plane_group", "placement",
    ]
    assert plan.label == "sign_split/streams/redo+skip"


def test_missing_keys_have_the_defaults_of_the_class():
    assert Plan.from_json("{}") == Plan()
    assert Plan.from_json('{"parts": 4, "skip": true}') == Plan(parts=4, skip=True)


def test_default():
    assert Plan.default((512, 2048)) == Plan(parts=8, hidden_tile=256)
    assert Plan.default((512, 2048), "sign_split").k_tile == 256
    gated = Plan.default((512, 2048), "sign_split", activation="reglu", gated=True)
    assert (gated.variant, gated.repair) == ("telescoping", "none")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Plan.from_json('{"colour": 1}'), 'unknown key "colour"'),
        (lambda: Plan.from_json('{"strategy": "fast"}'), 'unknown strategy "fast"'),
        (lambda: Plan.from_json("plan"), "not JSON"),
        (lambda: Plan(parts="many").to_json(), '"parts" must be an integer'),
        (lambda: Plan(k_tile=100).validate((512, 2048)), "multiple of 64"),
        (lambda: Plan(parts=99).validate((64, 64)), "plan.parts"),
        (lambda: Plan.default((0, 64)), "d_model"),
        (lambda: Plan.default((64, 64), "sign_split", variant="interim", activation="reglu", gated=True), "gated"),
    ],
)
def test_what_is_wrong_is_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_plans_do_not_change():
    with pytest.raises(AttributeError):
        Plan().parts = 2
    assert Plan().replace(parts=2) == Plan(parts=2)


def test_a_plan_of_a_layer_is_for_its_batch(rng):
    ffn = FFN.from_arrays(**random_layer(rng, 8, 5000))
    one, many = ffn.plan(), ffn.plan(batch=16)
    assert many == Plan.default((8, 5000), batch=16) != one == Plan.default((8, 5000))
