"""Making layers: element types, tensors of other frameworks, files, errors."""

import sys

import ml_dtypes
import numpy as np
import pytest

import signsplit
from dlpack_tensor import DlpackTensor, bfloat16_tensor
from layers import bits, random_layer


def test_properties(rng):
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 48, 20, dtype="bf16", gated=True, activation="fatrelu:0.25"))
    assert (ffn.shape, ffn.dtype, ffn.activation, ffn.gated) == ((48, 20), "bf16", "fatrelu:0.25", True)
    assert repr(ffn) == "FFN(shape=(48, 20), dtype='bf16', activation='fatrelu:0.25', gated=True)"


@pytest.mark.parametrize("dtype", ["f32", "bf16"])
@pytest.mark.parametrize("gated", [False, True])
def test_a_file_gives_back_the_layer(rng, tmp_path, dtype, gated):
    activation = "drelu" if gated else "relu2"
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 50, 21, dtype=dtype, gated=gated, activation=activation))
    ffn.save(tmp_path / "layer.safetensors")
    again = signsplit.FFN.from_safetensors(tmp_path / "layer.safetensors")
    x = rng.standard_normal((3, 50), dtype=np.float32)
    assert repr(again) == repr(ffn)
    assert np.array_equal(bits(again.run(x)), bits(ffn.run(x)))
    other = signsplit.FFN.from_safetensors(str(tmp_path / "layer.safetensors"), activation="relu")
    assert other.activation == ("reglu" if gated else "relu")


def test_bf16_weights_are_the_values_that_they_are(rng):
    """bf16 widened to f32 by ml_dtypes is another layer with the same results."""
    layer = random_layer(rng, 70, 30, dtype="bf16")
    wide = {**layer, "up": layer["up"].astype(np.float32), "down": layer["down"].astype(np.float32)}
    x = rng.standard_normal((2, 70), dtype=np.float32)
    narrow_ffn, wide_ffn = signsplit.FFN.from_arrays(**layer), signsplit.FFN.from_arrays(**wide)
    assert (narrow_ffn.dtype, wide_ffn.dtype) == ("bf16", "f32")
    assert np.array_equal(bits(narrow_ffn.run(x)), bits(wide_ffn.run(x)))


def test_f16_weights_are_the_values_that_they_are(rng):
    layer = random_layer(rng, 70, 30, dtype="f16", gated=True)
    x = rng.standard_normal((3, 70), dtype=np.float32)
    wide = {name: value if isinstance(value, str) else value.astype(np.float32) for name, value in layer.items()}
    narrow_ffn, wide_ffn = signsplit.FFN.from_arrays(**layer), signsplit.FFN.from_arrays(**wide)
    assert (narrow_ffn.dtype, wide_ffn.dtype) == ("f16", "f32")
    assert np.array_equal(bits(narrow_ffn.run(x)), bits(wide_ffn.run(x)))
    tensors = {name: DlpackTensor(value, "float16") if value is not layer["activation"] and value.dtype == np.float16 else value
               for name, value in layer.items()}
    assert np.array_equal(bits(signsplit.FFN.from_arrays(**tensors).run(x)), bits(wide_ffn.run(x)))


def test_rounded_to_int8(rng, tmp_path):
    """Weights that are small integers times a power of two survive, and the file has them all."""
    layer = random_layer(rng, 70, 30)
    for name in ("up", "down"):
        layer[name] = rng.integers(-127, 128, layer[name].shape).astype(np.float32) / 64
        layer[name][:, 0] = 127 / 64
    ffn = signsplit.FFN.from_arrays(**layer)
    x = rng.standard_normal((3, 70), dtype=np.float32)
    for group in (0, 64):
        rounded = ffn.quantize(group)
        rounded.save(tmp_path / "layer.safetensors")
        read = signsplit.FFN.from_safetensors(tmp_path / "layer.safetensors")
        assert read.dtype == "int8"
        assert np.array_equal(bits(read.run(x)), bits(rounded.run(x)))
    assert np.array_equal(bits(ffn.quantize().run(x)), bits(ffn.run(x)))
    with pytest.raises(ValueError, match="int8 already"):
        ffn.quantize().quantize()
    with pytest.raises(ValueError, match="group"):
        ffn.quantize(100)
    layer["up"][3, 5] = np.inf
    with pytest.raises(ValueError, match="up.weight: row 3"):
        signsplit.FFN.from_arrays(**layer).quantize()


def test_bf16_input_and_bias_are_widened(rng):
    layer = random_layer(rng, 70, 30)
    narrow = {**layer, "up_bias": layer["up_bias"].astype(ml_dtypes.bfloat16)}
    wide = {**layer, "up_bias": narrow["up_bias"].astype(np.float32)}
    x = rng.standard_normal((2, 70), dtype=np.float32).astype(ml_dtypes.bfloat16)
    y = signsplit.FFN.from_arrays(**narrow).run(x)
    assert np.array_equal(bits(y), bits(signsplit.FFN.from_arrays(**wide).run(x.astype(np.float32))))


def test_dlpack_tensors(rng):
    """bf16, which numpy's own DLPack refuses, and strides."""
    layer = random_layer(rng, 70, 30, dtype="bf16")
    x = rng.standard_normal((70, 2), dtype=np.float32)
    expected = bits(signsplit.FFN.from_arrays(**layer).run(x.T))
    tensors = {
        "up": bfloat16_tensor(layer["up"]),
        "down": DlpackTensor(np.ascontiguousarray(layer["down"].T).T.view(np.uint16), "bfloat16"),
        "up_bias": DlpackTensor(layer["up_bias"], "float32"),
    }
    y = signsplit.FFN.from_arrays(**{**layer, **tensors}).run(DlpackTensor(x.T, "float32"))
    assert np.array_equal(bits(y), expected)


def test_dlpack_tensors_that_are_refused(rng):
    layer = random_layer(rng, 8, 4)
    half = DlpackTensor(np.zeros((4, 8), np.float16), "float16")
    with pytest.raises(TypeError, match="down has elements f32, and up has f16"):
        signsplit.FFN.from_arrays(**{**layer, "up": half})
    far_away = DlpackTensor(np.zeros((4, 8), np.float32), "float32", device=2)
    with pytest.raises(ValueError, match="up is not in the memory of the CPU"):
        signsplit.FFN.from_arrays(**{**layer, "up": far_away})


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_torch_tensors(rng, dtype):
    torch = pytest.importorskip("torch")
    layer = random_layer(rng, 70, 30)
    tensors = {
        name: value if name == "activation" else torch.nn.Parameter(torch.from_numpy(value).to(getattr(torch, dtype)))
        for name, value in layer.items()
    }
    narrowed = {
        name: value if name == "activation" else value.astype(getattr(ml_dtypes, dtype, np.float32))
        for name, value in layer.items()
    }
    x = torch.randn(3, 70)
    y = signsplit.FFN.from_arrays(**tensors).run(x)
    assert np.array_equal(bits(y), bits(signsplit.FFN.from_arrays(**narrowed).run(x.numpy())))


def test_jax_arrays(rng):
    jnp = pytest.importorskip("jax.numpy")
    layer = random_layer(rng, 70, 30, dtype="bf16")
    arrays = {name: value if name == "activation" else jnp.asarray(value) for name, value in layer.items()}
    x = rng.standard_normal((3, 70), dtype=np.float32)
    y = signsplit.FFN.from_arrays(**arrays).run(jnp.asarray(x))
    assert np.array_equal(bits(y), bits(signsplit.FFN.from_arrays(**layer).run(x)))


def zeros(*shape, dtype=np.float32):
    return np.zeros(shape, dtype)


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"up": zeros(48)}, ValueError, r"up has shape \[48\], expected \[F, D\]"),
        ({"up": zeros(0, 48)}, ValueError, "up has shape"),
        ({"down": zeros(20, 48)}, ValueError, r"down has shape \[20, 48\], expected \[D, F\] = \[48, 20\]"),
        ({"down": zeros(48, 20, dtype=ml_dtypes.bfloat16)}, TypeError, "down has elements bf16, and up has f32"),
        ({"gate": zeros(48, 20)}, ValueError, r"gate has shape \[48, 20\], expected \[F, D\]"),
        ({"up_bias": zeros(48)}, ValueError, r"up_bias has shape \[48\], expected \[F\] = \[20\]"),
        ({"down_bias": zeros(20)}, ValueError, "down_bias has shape"),
        ({"gate_bias": zeros(20)}, ValueError, "gate_bias is given without a gate"),
        ({"up": zeros(20, 48, dtype=np.float16)}, TypeError, "down has elements f32, and up has f16"),
        ({"up": zeros(20, 48, dtype=np.float64)}, TypeError, "up has dtype float64"),
        ({"up": zeros(20, 48, dtype=np.uint16)}, TypeError, "up has dtype uint16"),
        ({"activation": "celu"}, ValueError, 'activation "celu" is unknown'),
        ({"activation": "swiglu"}, ValueError, "activation swiglu needs a gate"),
        ({"activation": "drelu"}, ValueError, "activation drelu needs a gate"),
        ({"activation": "fatrelu:-1"}, ValueError, "fatrelu:-1"),
    ],
)
def test_what_does_not_fit_is_named(rng, changes, error, message):
    layer = random_layer(rng, 48, 20)
    with pytest.raises(error, match=message) as caught:
        signsplit.FFN.from_arrays(**{**layer, **changes})
    assert "\n" not in str(caught.value)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(FileNotFoundError, match="none.safetensors: no such file"):
        signsplit.FFN.from_safetensors(tmp_path / "none.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not a safetensors file")
    with pytest.raises(ValueError, match="broken.safetensors: "):
        signsplit.FFN.from_safetensors(tmp_path / "broken.safetensors")
    with pytest.raises(OSError, match="not a regular file"):
        signsplit.FFN.from_safetensors(tmp_path)
    (tmp_path / "empty.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    with pytest.raises(LookupError, match="tensor up.weight: is missing"):
        signsplit.FFN.from_safetensors(tmp_path / "empty.safetensors")


@pytest.mark.skipif(sys.platform != "linux", reason="file names of any bytes are a thing of Linux")
def test_a_file_name_that_is_not_utf8(rng, tmp_path):
    name = tmp_path / "gr\udcfcn.safetensors"
    ffn = signsplit.FFN.from_arrays(**random_layer(rng, 8, 4))
    ffn.save(name)
    assert name.exists() and repr(signsplit.FFN.from_safetensors(name)) == repr(ffn)
