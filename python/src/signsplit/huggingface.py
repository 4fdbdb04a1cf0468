"""FFN layers of Hugging Face checkpoint folders on disk: config.json and safetensors, whole or sharded."""

from __future__ import annotations

import json
import os
from typing import Any, NamedTuple, Optional

import numpy as np
import numpy.typing as npt

from . import _native, arrays


class _Family(NamedTuple):
    """How a kind of model names its tensors: without ".weight" and ".bias", {} is the number of the layer."""

    title: str
    up: str
    down: str
    gate: Optional[str]


# In this order: Llama's names include Nemotron's.
_FAMILIES = (
    _Family("OPT", "model.decoder.layers.{}.fc1", "model.decoder.layers.{}.fc2", None),
    _Family("OPT", "decoder.layers.{}.fc1", "decoder.layers.{}.fc2", None),
    _Family(
        "Llama", "model.layers.{}.mlp.up_proj", "model.layers.{}.mlp.down_proj", "model.layers.{}.mlp.gate_proj"
    ),
    _Family("Nemotron", "model.layers.{}.mlp.up_proj", "model.layers.{}.mlp.down_proj", None),
)
_ACTIVATIONS = {
    "relu": "relu",
    "relu2": "relu2",
    "silu": "silu",
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
}


def read_layer(folder: str, layer: int) -> dict[str, Any]:
    """The arguments of FFN.from_arrays for one layer of a checkpoint folder."""
    config = _read_object(os.path.join(folder, "config.json"))
    if layer < 0:
        raise ValueError(f"layer must not be negative (got {layer})")
    count = config.get("num_hidden_layers")
    if isinstance(count, int) and layer >= count:
        raise ValueError(f"{folder}: has layers 0 to {count - 1}, no layer {layer}")
    opened: dict[str, _native.SafetensorsFile] = {}
    files = _files_by_tensor(folder, opened)
    family = _family_of(files, folder, layer)
    activation = _activation_of(config, folder)
    found: dict[str, Any] = {"activation": activation}
    for role, stem in (("up", family.up), ("down", family.down), ("gate", family.gate)):
        if stem is None:
            continue
        name = stem.format(layer)
        found[role] = _read_tensor(files, opened, folder, name + ".weight")
        if name + ".bias" in files:
            found[role + "_bias"] = _read_tensor(files, opened, folder, name + ".bias")
    return found


def _read_object(path: str) -> dict[str, Any]:
    """The JSON object in a file."""
    try:
        with open(path, encoding="utf-8") as file:
            content = json.load(file)
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file") from None
    except ValueError as error:  # not JSON, or not UTF-8
        raise ValueError(f"{path}: is not JSON: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must be a JSON object")
    return content


def _files_by_tensor(folder: str, opened: dict[str, _native.SafetensorsFile]) -> dict[str, str]:
    """The file in the folder that holds each tensor. Without an index there is one file, and it says what it holds."""
    index = os.path.join(folder, "model.safetensors.index.json")
    if os.path.exists(index):
        return _indexed_files(index)
    single = os.path.join(folder, "model.safetensors")
    if not os.path.exists(single):
        raise FileNotFoundError(
            f"{folder}: has neither model.safetensors nor model.safetensors.index.json (other formats are not read)"
        )
    opened[single] = _native.SafetensorsFile.open(single)
    return dict.fromkeys(opened[single].tensors(), "model.safetensors")


def _indexed_files(index: str) -> dict[str, str]:
    files = _read_object(index).get("weight_map")
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise ValueError(f'{index}: "weight_map" must map names of tensors to names of files')
    for file in files.values():
        if file in ("", ".", "..") or os.path.basename(file) != file:
            raise ValueError(f'{index}: "{file}" must be the name of a file in the same folder')
    return files


def _family_of(files: dict[str, str], folder: str, layer: int) -> _Family:
    for family in _FAMILIES:
        stems = [stem for stem in (family.up, family.gate) if stem is not None]
        if all(stem.format(layer) + ".weight" in files for stem in stems):
            return family
    known = ", ".join(f"{f.up.format(layer)}.weight ({f.title})" for f in _FAMILIES)
    raise LookupError(f"{folder}: has no FFN of layer {layer} under a known name: {known}")


def _activation_of(config: dict[str, Any], folder: str) -> str:
    for key in ("activation_function", "hidden_act"):
        name = config.get(key)
        if name is None:
            continue
        if name in _ACTIVATIONS:
            return _ACTIVATIONS[name]
        supported = ", ".join(_ACTIVATIONS)
        raise NotImplementedError(
            f"{os.path.join(folder, 'config.json')}: {key} {name} is not supported by this version, which has {supported}"
        )
    raise ValueError(f"{os.path.join(folder, 'config.json')}: has neither activation_function nor hidden_act")


def _read_tensor(
    files: dict[str, str], opened: dict[str, _native.SafetensorsFile], folder: str, name: str
) -> arrays.Typed:
    """A tensor of dtype F32, BF16 or F16, viewed in the memory of its file."""
    if name not in files:
        raise LookupError(f"{folder}: tensor {name}: is missing")
    path = os.path.join(folder, files[name])
    if path not in opened:
        opened[path] = _native.SafetensorsFile.open(path)
    tensors = opened[path].tensors()
    if name not in tensors:
        raise LookupError(f"{path}: tensor {name}: is missing, and the index says that it is here")
    dtype, shape = tensors[name]
    values: npt.NDArray[np.uint8] = opened[path].bytes(name)
    if dtype == "F32":
        return arrays.Typed(values.view(np.float32).reshape(shape), "f32")
    if dtype in ("BF16", "F16"):
        return arrays.Typed(values.view(np.uint16).reshape(shape), dtype.lower())
    raise NotImplementedError(
        f"{path}: tensor {name}: dtype {dtype} is not supported, only F32, BF16 and F16; "
        "converted to float32 it can be given to FFN.from_arrays"
    )
