"""Layers of checkpoint folders, made here as their kinds of models name them."""

import json

import ml_dtypes
import numpy as np
import pytest

import signsplit
from layers import bits, random_layer

OPT = {"up": "model.decoder.layers.{}.fc1", "down": "model.decoder.layers.{}.fc2"}
MLP = {"up": "model.layers.{}.mlp.up_proj", "down": "model.layers.{}.mlp.down_proj", "gate": "model.layers.{}.mlp.gate_proj"}

DTYPES = {"float32": "F32", "bfloat16": "BF16", "float16": "F16", "int8": "I8"}


def write_safetensors(path, tensors):
    header, data = {"__metadata__": {"format": "pt"}}, b""
    for name, array in tensors.items():
        content = array.tobytes()
        header[name] = {
            "dtype": DTYPES[array.dtype.name],
            "shape": array.shape,
            "data_offsets": [len(data), len(data) + len(content)],
        }
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def named(layer, number, names):
    """The tensors of a layer of from_arrays under the names of a checkpoint."""
    tensors = {}
    for role, name in names.items():
        if role in layer:
            tensors[name.format(number) + ".weight"] = layer[role]
        if role + "_bias" in layer:
            tensors[name.format(number) + ".bias"] = layer[role + "_bias"]
    return tensors


def write_checkpoint(folder, config, tensors, shards=1):
    (folder / "config.json").write_text(json.dumps(config))
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    names = [f"model-{i + 1:05}-of-{shards:05}.safetensors" for i in range(shards)]
    files = {name: {} for name in names}
    for i, (tensor, array) in enumerate(tensors.items()):
        files[names[i % shards]][tensor] = array
    for name, content in files.items():
        write_safetensors(folder / name, content)
    index = {"metadata": {}, "weight_map": {t: n for n, content in files.items() for t in content}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


KINDS = {
    "opt": (OPT, {"model_type": "opt", "activation_function": "relu"}, {}),
    "opt-bare": ({k: v[len("model.") :] for k, v in OPT.items()}, {"activation_function": "relu"}, {}),
    "llama": (MLP, {"model_type": "llama", "hidden_act": "relu"}, {"gated": True, "biased": False}),
    "llama-silu": (MLP, {"model_type": "llama", "hidden_act": "silu"}, {"gated": True, "biased": False, "activation": "swiglu"}),
    "llama-biased": (MLP, {"hidden_act": "relu"}, {"gated": True}),
    "nemotron": (MLP, {"model_type": "nemotron", "hidden_act": "relu2"}, {"activation": "relu2", "biased": False}),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dtype", ["f32", "bf16", "f16"])
@pytest.mark.parametrize("shards", [1, 3])
def test_the_layer_asked_for(rng, tmp_path, kind, dtype, shards):
    names, config, properties = KINDS[kind]
    layers = [random_layer(rng, 40, 24, dtype=dtype, **properties) for _ in range(3)]
    if dtype == "bf16":  # real checkpoints store biases as they store matrices
        layers = [
            {n: v if isinstance(v, str) else v.astype(ml_dtypes.bfloat16) for n, v in layer.items()} for layer in layers
        ]
    tensors = {"model.embed_tokens.weight": np.zeros((3, 40), np.float16)}
    for number, layer in enumerate(layers):
        tensors.update(named(layer, number, names))
    write_checkpoint(tmp_path, {**config, "num_hidden_layers": 3}, tensors, shards)

    x = rng.standard_normal((2, 40), dtype=np.float32)
    for number, layer in enumerate(layers):
        ffn, expected = signsplit.FFN.from_hf(tmp_path, number), signsplit.FFN.from_arrays(**layer)
        assert repr(ffn) == repr(expected)
        assert np.array_equal(bits(ffn.run(x)), bits(expected.run(x)))


@pytest.fixture
def checkpoint(rng, tmp_path):
    """Writes an OPT checkpoint of one layer, with changes: (config keys, tensors to replace or, when None, to leave out)."""

    def write(config=None, tensors=None, shards=1):
        all_tensors = {**named(random_layer(rng, 40, 24), 0, OPT), **(tensors or {})}
        all_tensors = {name: array for name, array in all_tensors.items() if array is not None}
        merged = {"activation_function": "relu", "num_hidden_layers": 1, **(config or {})}
        write_checkpoint(tmp_path, {k: v for k, v in merged.items() if v is not None}, all_tensors, shards)
        return tmp_path

    return write


def fails(folder, error, message, layer=0):
    with pytest.raises(error, match=message) as caught:
        signsplit.FFN.from_hf(folder, layer)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        ("relu", "relu"),
        ("relu2", "relu2"),
        ("silu", "silu"),
        ("gelu", "gelu"),
        ("gelu_new", "gelu_tanh"),
        ("gelu_pytorch_tanh", "gelu_tanh"),
    ],
)
def test_names_of_activations(checkpoint, theirs, ours):
    assert signsplit.FFN.from_hf(checkpoint({"activation_function": theirs}), 0).activation == ours


@pytest.mark.parametrize("activation", ["gelu_10", "mish", "relu6"])
def test_other_activations_are_refused(checkpoint, activation):
    message = f"config.json: activation_function {activation} is not supported by this version, which has relu, relu2"
    fails(checkpoint({"activation_function": activation}), NotImplementedError, message)


def test_no_activation(checkpoint):
    fails(checkpoint({"activation_function": None}), ValueError, "neither activation_function nor hidden_act")


def test_layers_that_are_not_there(checkpoint):
    fails(checkpoint(), ValueError, "has layers 0 to 0, no layer 1", layer=1)
    fails(checkpoint(), ValueError, "must not be negative", layer=-1)
    fails(checkpoint({"num_hidden_layers": None}), LookupError, "no FFN of layer 7 under a known name", layer=7)


def test_a_missing_tensor(checkpoint):
    fails(checkpoint(tensors={"model.decoder.layers.0.fc2.weight": None}), LookupError, r"fc2\.weight: is missing")


@pytest.mark.parametrize("role", ["fc1.weight", "fc2.weight", "fc1.bias"])
def test_int8_is_named(checkpoint, role):
    shape = {"fc1.weight": (24, 40), "fc2.weight": (40, 24), "fc1.bias": (24,)}[role]
    folder = checkpoint(tensors={f"model.decoder.layers.0.{role}": np.zeros(shape, np.int8)})
    fails(folder, NotImplementedError, f"{role}: dtype I8 is not supported")


def test_shapes_that_do_not_fit(checkpoint):
    folder = checkpoint(tensors={"model.decoder.layers.0.fc2.weight": np.zeros((24, 40), np.float32)})
    fails(folder, ValueError, r"down has shape \[24, 40\]")


def test_folders_that_are_none(tmp_path, checkpoint):
    fails(tmp_path / "none", FileNotFoundError, "config.json: no such file")
    folder = checkpoint()
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    fails(folder, FileNotFoundError, "neither model.safetensors nor model.safetensors.index.json")
    (folder / "config.json").write_text("{")
    fails(folder, ValueError, "config.json: is not JSON")
    (folder / "config.json").write_text("[]")
    fails(folder, ValueError, "config.json: must be a JSON object")


def test_an_index_that_is_wrong(checkpoint):
    folder = checkpoint(shards=2)
    index = folder / "model.safetensors.index.json"
    names = json.loads(index.read_text())["weight_map"]
    swapped = {name: next(f for f in names.values() if f != file) for name, file in names.items()}
    index.write_text(json.dumps({"weight_map": swapped}))
    fails(folder, LookupError, "is missing, and the index says that it is here")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "gone.safetensors")}))
    fails(folder, FileNotFoundError, "gone.safetensors: no such file")
    index.write_text(json.dumps({"weight_map": dict.fromkeys(names, "../model.safetensors")}))
    fails(folder, ValueError, "must be the name of a file in the same folder")
    index.write_text("{}")
    fails(folder, ValueError, '"weight_map" must map')
