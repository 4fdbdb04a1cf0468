"""The command and the package are the same library: same bits, same JSON, same files. Needs SIGNSPLIT_COMMAND."""

import json
import os
import subprocess

import numpy as np
import pytest

import signsplit
from layers import bits, random_layer

COMMAND = os.environ.get("SIGNSPLIT_COMMAND", "")

pytestmark = pytest.mark.skipif(not COMMAND, reason="SIGNSPLIT_COMMAND does not name the command's binary")


def command(*arguments, status=0):
    """Runs the command; its standard output."""
    ran = subprocess.run([COMMAND, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ran.returncode == status, ran.stderr
    return ran.stdout


@pytest.fixture(params=[("f32", False), ("bf16", False), ("bf16", True)], ids=["f32", "bf16", "bf16-gated"])
def case(request, rng, tmp_path):
    """(layer, x [5, D], the files of both)"""
    dtype, gated = request.param
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 200, 700, dtype=dtype, gated=gated))
    x = rng.standard_normal((5, 200), dtype=np.float32)
    ffn.save(tmp_path / "layer.safetensors")
    np.save(tmp_path / "x.npy", x)
    return ffn, x, tmp_path


@pytest.mark.parametrize("options", [{}, {"strategy": "unfused"}, {"skip": True}, {"strategy": "sign_split"}], ids=str)
def test_same_bits_and_same_counters(case, options):
    ffn, x, folder = case
    flags = ["--strategy", options.get("strategy", "row_fused"), *(["--skip"] if "skip" in options else [])]
    printed = command(
        "run", "--weights", folder / "layer.safetensors", "--input", folder / "x.npy", "--output", folder / "y.npy",
        "--batch", 5, "--json", folder / "run.json", *flags,
    )
    assert "schedule" in printed
    document = json.loads((folder / "run.json").read_text())
    run = ffn.run(x, return_stats=True, **options)
    assert np.array_equal(bits(np.load(folder / "y.npy")), bits(run.y))
    assert document["plan"] == json.loads(run.stats["plan"].to_json())
    assert document["stats"] == {name: run.stats[name] for name in document["stats"]}


@pytest.mark.parametrize(("strategy", "mode"), [("reference", "staged"), ("reference_composite", "composite")])
def test_same_exact_bits(case, strategy, mode):
    ffn, x, folder = case
    command(
        "run", "--weights", folder / "layer.safetensors", "--input", folder / "x.npy", "--output", folder / "y.npy",
        "--strategy", strategy,
    )
    assert np.array_equal(bits(np.load(folder / "y.npy")), bits(signsplit.reference(ffn, x, mode).y))


@pytest.mark.parametrize(
    ("flags", "arguments"),
    [
        (["--shape", "512x2048"], {"shape": (512, 2048)}),
        (["--model", "opt-1.3b", "--batch", 4], {"model": "opt-1.3b", "batch": 4}),
        (
            ["--shape", "512x2048", "--gated", "--dtype", "f32", "--active", 0.25, "--threads", 1],
            {"shape": (512, 2048), "gated": True, "dtype": "f32", "active": 0.25, "threads": 1},
        ),
        (["--shape", "64x64", "--activation", "identity"], {"shape": (64, 64), "activation": "identity"}),
        (["--model", "llama-2-7b"], {"model": "llama-2-7b"}),
    ],
)
def test_same_predictions(tmp_path, flags, arguments):
    command("predict", "--hardware", "avx2-laptop", "--json", tmp_path / "answer.json", *flags)
    assert json.loads((tmp_path / "answer.json").read_text()) == signsplit.predict(hardware="avx2-laptop", **arguments)
