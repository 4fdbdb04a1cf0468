"""Running layers: bits, masks, counters, input layouts."""

import threading

import numpy as np
import pytest

import signsplit
from canonical import canonical_token
from gil import progress_during
from layers import as_lists, bits, random_layer
from signsplit import arrays

KINDS = [
    pytest.param({"activation": "relu"}, id="relu"),
    pytest.param({"activation": "relu2"}, id="relu2"),
    pytest.param({"activation": "relu", "dtype": "bf16"}, id="relu-bf16"),
    pytest.param({"activation": "reglu", "gated": True}, id="reglu"),
    pytest.param({"activation": "relu", "biased": False}, id="no-bias"),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("strategy", ["unfused", "row_fused"])
def test_canonical_bits(rng, kind, strategy):
    """Against an evaluation in rational numbers, each rounded to float32 as the exactness contract says."""
    layer = random_layer(rng, 70, 9, **kind)
    ffn = signsplit.FFN.from_arrays(**layer)
    x = rng.standard_normal((2, 70), dtype=np.float32)
    plan = ffn.plan(strategy).replace(parts=3)
    expected = np.stack([canonical_token(token.tolist(), as_lists(layer), parts=3) for token in x])
    for isa in signsplit.supported_isas():
        for skip in (False, True):
            assert np.array_equal(bits(ffn.run(x, plan.replace(skip=skip), isa=isa)), bits(expected))


@pytest.mark.parametrize("kind", KINDS)
def test_same_bits_whatever_runs_it(rng, kind):
    layer = random_layer(rng, 130, 600, **kind)
    ffn = signsplit.FFN.from_arrays(**layer)
    x = rng.standard_normal((21, 130), dtype=np.float32)
    for strategy in ("row_fused", "sign_split"):
        expected = bits(ffn.run(x, strategy, isa="scalar", threads=1))
        for isa in signsplit.supported_isas():
            for options in ({"threads": 2}, {"batch": 1}, {"batch": 5, "threads": 3}, {}):
                assert np.array_equal(bits(ffn.run(x, strategy, isa=isa, **options)), expected)
    assert np.array_equal(bits(ffn.run(x, skip=True)), bits(ffn.run(x, "unfused")))


@pytest.mark.parametrize("variant", ["interim", "streams", "telescoping"])
def test_sign_split_keeps_its_bound_and_its_mask(rng, variant):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 192, 300))
    x = rng.standard_normal((4, 192), dtype=np.float32)
    run = ffn.run(x, "sign_split", variant=variant, mask=True)
    exact = signsplit.reference(ffn, x)
    bound = signsplit.error_bound(ffn, x, "sign_split", variant=variant)
    assert signsplit.check(run.y, exact, bound)
    assert run.mask.dtype == np.bool_ and np.array_equal(run.mask, exact.active)


@pytest.mark.parametrize("strategy", ["unfused", "row_fused", "certified"])
def test_exact_mask_has_the_signs_that_float32_loses(strategy):
    """In float32 2^24 + 1 is 2^24: unit 0 is open by 1 and its z is 0. Unit 1 is closed by 1, unit 2 open beyond doubt."""
    up = np.zeros((3, 192), dtype=np.float32)
    up[0, [0, 64, 128]] = [2**24, 1, -(2**24)]
    up[1] = -up[0]
    up[2, 0] = 1
    ffn = signsplit.FFN.from_arrays(up, np.ones((192, 3), dtype=np.float32))
    x = np.ones((2, 192), dtype=np.float32)
    plain, exact = ffn.run(x, strategy, mask=True), ffn.run(x, strategy, mask="exact", return_stats=True)
    assert plain.mask.tolist() == [[False, False, True]] * 2
    assert exact.mask.tolist() == [[True, False, True]] * 2
    assert exact.stats["rechecked"] > 0 and np.array_equal(bits(exact.y), bits(plain.y))
    assert ffn.run(x, strategy, mask=True).mask.tolist() == plain.mask.tolist()
    with pytest.raises(ValueError, match='True, False or "exact"'):
        ffn.run(x, mask="roughly")


def test_auto_gives_the_bits_of_the_plan_it_chose(rng):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 64, 128))
    x = rng.standard_normal((2, 64), dtype=np.float32)
    run = ffn.run(x, "auto", return_stats=True)
    assert isinstance(run.stats["plan"], signsplit.Plan)
    assert np.array_equal(bits(run.y), bits(ffn.run(x, run.stats["plan"])))


def test_auto_skips_when_told_to(rng, monkeypatch):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 64, 128))
    monkeypatch.setattr(signsplit._native, "choose_plan", lambda *_: signsplit.Plan().to_json())
    x = rng.standard_normal(64, dtype=np.float32)
    for skip in (False, True):
        assert ffn.run(x, "auto", skip=skip, return_stats=True).stats["plan"] == signsplit.Plan(skip=skip)


def test_what_auto_measured_it_remembers(rng, monkeypatch, tmp_path):
    monkeypatch.setenv("SIGNSPLIT_WISDOM", str(tmp_path / "wisdom.json"))
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 64, 128))
    x = rng.standard_normal((2, 64), dtype=np.float32)
    measured = ffn.run(x, "auto", planner="measure", return_stats=True)
    assert (tmp_path / "wisdom.json").exists()
    assert ffn.run(x, "auto", return_stats=True).stats["plan"] == measured.stats["plan"]
    assert np.array_equal(bits(measured.y), bits(ffn.run(x, measured.stats["plan"])))
    with pytest.raises(ValueError, match="estimate, measure"):
        ffn.run(x, "auto", planner="guess")


def test_one_token_without_its_axis(rng):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 48, 20))
    x = rng.standard_normal((3, 48), dtype=np.float32)
    rows = ffn.run(x, mask=True)
    one = ffn.run(x[1], mask=True)
    assert one.y.shape == (48,) and one.mask.shape == (20,)
    assert np.array_equal(bits(one.y), bits(rows.y[1])) and np.array_equal(one.mask, rows.mask[1])


def test_statistics_count_what_was_read(rng):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 64, 40, biased=False))
    x = rng.standard_normal((20, 64), dtype=np.float32)
    run = ffn.run(x, mask=True, return_stats=True, isa="scalar", threads=2)
    assert run.stats["bytes_up"] == 2 * 40 * 64 * 4  # two calls, of 16 and of 4 tokens
    assert run.stats["active"] == np.count_nonzero(run.mask)
    assert run.stats["isa"] == "scalar" and run.stats["threads"] == 2
    assert ffn.run(x, return_stats=True).mask is None and ffn.run(x, mask=True).stats is None


def test_the_executor_kept_is_not_used_for_another_instruction_set_or_thread_count(rng, monkeypatch):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 64, 40))
    x = rng.standard_normal(64, dtype=np.float32)
    for isa in signsplit.supported_isas() * 2:
        for threads in (1, 2):
            stats = ffn.run(x, isa=isa, threads=threads, return_stats=True).stats
            assert (stats["isa"], stats["threads"]) == (isa, threads)
        monkeypatch.setenv("SIGNSPLIT_ISA", isa)
        assert ffn.run(x, return_stats=True).stats["isa"] == isa


def test_a_fitting_x_is_not_copied(rng):
    x = rng.standard_normal((3, 48), dtype=np.float32)
    x.setflags(write=False)
    assert np.shares_memory(arrays.tokens(x, 48).rows, x)
    assert np.shares_memory(arrays.tokens(x[1], 48).rows, x)
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 48, 20))
    y = ffn.run(x)
    assert y.flags.writeable and y.dtype == np.float32 and not np.shares_memory(y, x)


def test_other_layouts_give_the_same_bits(rng):
    layer = random_layer(rng, 48, 20)
    ffn = signsplit.FFN.from_arrays(**layer)
    x = rng.standard_normal((6, 48), dtype=np.float32)
    expected = bits(ffn.run(x))
    padded = np.zeros((6, 100), dtype=np.float32)
    padded[:, 1:97:2] = x
    unaligned = np.frombuffer(b"\0" + x.tobytes(), dtype=np.uint8)[1:].view(np.float32).reshape(6, 48)
    for other in (np.asfortranarray(x), padded[:, 1:97:2], x[::-1].copy()[::-1], x.astype(">f4"), unaligned):
        assert np.array_equal(bits(ffn.run(other)), expected)
    transposed = {**layer, "up": np.asfortranarray(layer["up"]), "down": np.ascontiguousarray(layer["down"].T).T}
    assert np.array_equal(bits(signsplit.FFN.from_arrays(**transposed).run(x)), expected)


def test_results_stay_when_the_layer_goes(rng):
    x = rng.standard_normal((2, 48), dtype=np.float32)
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 48, 20))
    run = ffn.run(x, mask=True)
    copies = run.y.copy(), run.mask.copy()
    ffn.run(-x, mask=True)
    del ffn
    assert np.array_equal(run.y, copies[0]) and np.array_equal(run.mask, copies[1])


def test_many_threads_share_a_layer(rng):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 64, 200))
    inputs = [rng.standard_normal((3, 64), dtype=np.float32) for _ in range(8)]
    expected = [bits(ffn.run(x)) for x in inputs]
    wrong = []

    def work(number):
        for _ in range(20):
            if not np.array_equal(bits(ffn.run(inputs[number], threads=1)), expected[number]):
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


def test_the_checker_of_the_gil_sees_who_holds_it():
    assert not progress_during(lambda: sum(range(10**6)), tries=3)


@pytest.mark.parametrize("call", ["run", "reference", "error_bound", "from_arrays"])
def test_the_gil_is_released(rng, call):
    layer = random_layer(rng, 512, 1024)
    ffn = signsplit.FFN.from_arrays(**layer)
    x = rng.standard_normal((16, 512), dtype=np.float32)
    work = {
        "run": lambda: ffn.run(x, threads=1),
        "reference": lambda: signsplit.reference(ffn, x, threads=1),
        "error_bound": lambda: signsplit.error_bound(ffn, x),
        "from_arrays": lambda: signsplit.FFN.from_arrays(**layer),
    }
    assert progress_during(work[call], tries=200)


def test_nan_and_infinity_come_through(rng):
    layer = random_layer(rng, 48, 20)
    x = rng.standard_normal((3, 48), dtype=np.float32)
    x[1, 7] = np.nan
    y = signsplit.FFN.from_arrays(**layer).run(x, skip=True)
    assert np.isnan(y[1]).all() and np.isfinite(y[[0, 2]]).all()
    assert (bits(y[1]) == 0x7FC00000).all()


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"strategy": "fused"}, ValueError, 'strategy "fused" is unknown'),
        ({"variant": "interim"}, ValueError, "go with strategy sign_split only"),
        ({"strategy": "auto", "repair": "full"}, ValueError, "go with strategy sign_split only"),
        ({"strategy": signsplit.Plan(), "skip": True}, ValueError, "field of the plan"),
        ({"strategy": "sign_split", "variant": "best"}, ValueError, 'variant "best" is unknown'),
        ({"strategy": "sign_split", "repair": "best"}, ValueError, 'repair "best" is unknown'),
        ({"strategy": signsplit.Plan(parts=99)}, ValueError, "plan.parts"),
        ({"isa": "sse"}, ValueError, 'isa "sse" is unknown'),
        ({"threads": -1}, ValueError, "threads must be 0"),
        ({"batch": 0}, ValueError, "batch must be at least 1"),
        ({"x": np.zeros((2, 47), np.float32)}, ValueError, r"x has shape \[2, 47\], expected \[48\] or \[N, 48\]"),
        ({"x": np.zeros((0, 48), np.float32)}, ValueError, "N at least 1"),
        ({"x": np.zeros((1, 2, 48), np.float32)}, ValueError, "x has shape"),
        ({"x": np.zeros(48)}, TypeError, "x has dtype float64"),
        ({"x": np.zeros(48, np.int32)}, TypeError, "x has dtype int32"),
        ({"x": [0.0] * 48}, TypeError, "x has dtype float64"),
    ],
)
def test_wrong_arguments_are_named(rng, arguments, error, message):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 48, 20))
    with pytest.raises(error, match=message) as caught:
        ffn.run(**{"x": np.zeros(48, np.float32), **arguments})
    assert "\n" not in str(caught.value)


def test_an_instruction_set_that_is_not_there_is_refused(rng, monkeypatch):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 48, 20))
    monkeypatch.setenv("SIGNSPLIT_ISA", "no-such-isa")
    with pytest.raises((ValueError, NotImplementedError), match="SIGNSPLIT_ISA"):
        ffn.run(np.zeros(48, np.float32))
