"""FFN layers: where they come from, and running them."""

from __future__ import annotations

import os
from typing import Any, Literal, NamedTuple, Optional, Union, overload

import numpy as np
import numpy.typing as npt

from . import _native, arrays, huggingface
from .plan import Plan

Path = Union[str, "os.PathLike[str]"]

_MOST_TOKENS_PER_CALL = 16


class Run(NamedTuple):
    """What `FFN.run` returns when more than y is asked for.

    y      [N, D] float32
    mask   [N, F] bool, True where the hidden unit is open; None unless asked for
    stats  what the run did: bytes read per array, active units, repairs, instruction set, threads; None unless asked for
    """

    y: npt.NDArray[np.float32]
    mask: Optional[npt.NDArray[np.bool_]]
    stats: Optional[dict[str, Any]]


class FFN:
    """One FFN layer, packed. Immutable: any number of threads may run it at once. Made by the from_… methods."""

    def __init__(self, layer: _native.Layer) -> None:
        self._layer = layer

    @staticmethod
    def from_safetensors(path: Path, activation: Optional[str] = None) -> FFN:
        """Reads up.weight [F, D], down.weight [D, F], optional gate.weight [F, D], up.bias [F], gate.bias [F] and
        down.bias [D] from a safetensors file. `activation` replaces the one of the file's metadata."""
        return FFN(_native.Layer.load(path, activation))

    @staticmethod
    def from_arrays(
        up: Any,
        down: Any,
        gate: Any = None,
        *,
        up_bias: Any = None,
        gate_bias: Any = None,
        down_bias: Any = None,
        activation: str = "relu",
    ) -> FFN:
        """Packs a copy of up [F, D], down [D, F], gate [F, D], up_bias [F], gate_bias [F], down_bias [D].

        Matrices are all float32, all bfloat16 (ml_dtypes, or tensors of torch, JAX, … on the CPU) or all float16; biases are
        any of them.
        activation: relu, relu2, fatrelu:T, identity, gelu, gelu_tanh, silu; with a gate also drelu, and reglu, geglu,
        geglu_tanh and swiglu (other names of relu, gelu, gelu_tanh and silu)."""
        w1 = arrays.matrix("up", up, (None, None), None, "[F, D]")
        d_ff, d_model = w1.values.shape
        w2 = arrays.matrix("down", down, (d_model, d_ff), w1.dtype, "[D, F]")
        wg = None if gate is None else arrays.matrix("gate", gate, (d_ff, d_model), w1.dtype, "[F, D]").values
        if wg is None and gate_bias is not None:
            raise ValueError("gate_bias is given without a gate")
        return FFN(
            _native.Layer.pack(
                w1.dtype,
                w1.values,
                w2.values,
                wg,
                arrays.bias("up_bias", up_bias, d_ff, "F"),
                arrays.bias("gate_bias", gate_bias, d_ff, "F"),
                arrays.bias("down_bias", down_bias, d_model, "D"),
                activation,
            )
        )

    @staticmethod
    def from_hf(folder: Path, layer: int) -> FFN:
        """Layer number `layer` of a Hugging Face checkpoint folder: config.json, and model.safetensors or its shards.

        Understands OPT (fc1, fc2), Llama-style gated (gate_proj, up_proj, down_proj) and Nemotron (up_proj, down_proj)
        names with the activations relu and relu2. Every file that holds one of the tensors is read whole."""
        tensors = huggingface.read_layer(os.fspath(folder), layer)
        return FFN.from_arrays(**tensors)

    def quantize(self, group: int = 0) -> FFN:
        """This layer with its matrices rounded to int8: `group` weights along a stored row share a scale (a multiple of 64;
        0: the whole row), q = w / scale to nearest. ValueError when a weight is not finite or the layer is int8 already."""
        return FFN(self._layer.quantize(group))

    def save(self, path: Path) -> None:
        """Writes what from_safetensors and the command read. The file is whole or not there."""
        self._layer.save(path)

    @property
    def shape(self) -> tuple[int, int]:
        """(D, F)"""
        return self._layer.d_model, self._layer.d_ff

    @property
    def dtype(self) -> str:
        """Of the matrices: "f32", "bf16", "f16" or "int8"."""
        return self._layer.dtype

    @property
    def activation(self) -> str:
        """As from_arrays takes it: "relu", "fatrelu:0.01", …; a gated relu is "reglu"."""
        return self._layer.activation

    @property
    def gated(self) -> bool:
        return self._layer.gated

    def plan(
        self,
        strategy: str = "row_fused",
        *,
        variant: Optional[str] = None,
        repair: Optional[str] = None,
        skip: bool = False,
        batch: int = 1,
    ) -> Plan:
        """The default plan of a strategy for this layer, for calls of `batch` tokens."""
        return Plan.default(
            self.shape,
            strategy,
            variant=variant,
            repair=repair,
            skip=skip,
            activation=self.activation,
            gated=self.gated,
            batch=batch,
        )

    @overload
    def run(
        self,
        x: Any,
        strategy: Union[str, Plan] = ...,
        *,
        variant: Optional[str] = ...,
        repair: Optional[str] = ...,
        skip: bool = ...,
        batch: Optional[int] = ...,
        threads: int = ...,
        isa: Optional[str] = ...,
        planner: str = ...,
        return_stats: Literal[False] = ...,
        mask: Literal[False] = ...,
    ) -> npt.NDArray[np.float32]: ...

    @overload
    def run(
        self,
        x: Any,
        strategy: Union[str, Plan] = ...,
        *,
        variant: Optional[str] = ...,
        repair: Optional[str] = ...,
        skip: bool = ...,
        batch: Optional[int] = ...,
        threads: int = ...,
        isa: Optional[str] = ...,
        planner: str = ...,
        return_stats: bool = ...,
        mask: Union[bool, Literal["exact"]] = ...,
    ) -> Union[npt.NDArray[np.float32], Run]: ...

    def run(
        self,
        x: Any,
        strategy: Union[str, Plan] = "row_fused",
        *,
        variant: Optional[str] = None,
        repair: Optional[str] = None,
        skip: bool = False,
        batch: Optional[int] = None,
        threads: int = 0,
        isa: Optional[str] = None,
        planner: str = "estimate",
        return_stats: bool = False,
        mask: Union[bool, Literal["exact"]] = False,
    ) -> Union[npt.NDArray[np.float32], Run]:
        """y of x [D] or [N, D]; a new array of the same shape. Releases the GIL while it computes.

        x is float32, C-contiguous for no copy; other layouts are converted, bfloat16 is widened, other types refused.

        strategy   unfused, row_fused, certified, sign_split, auto (the simulator chooses for this machine), or a Plan
        variant    of sign_split: interim (default), streams, telescoping (default when gated), ignore
        repair     of sign_split: selective (default), full, redo
        skip       do not read rows of W2 that nothing is added from; the same bits
        batch      tokens per call, at most 16 unless given; the same bits, but shared reads of the weights
        threads    0: all cores; the same bits
        isa        scalar, avx2, avx512; default $SIGNSPLIT_ISA, else the best of the machine; the same bits
        planner    of auto: estimate, or measure: times the best few on these tokens, about a second, and remembers the answer

        mask       True: which units are open, as f32 has their signs; "exact": as real numbers have them (y is the same)

        With return_stats or mask the result is a Run(y, mask, stats); of x [D], mask is [F]."""
        tokens = arrays.tokens(x, self.shape[0])
        per_call = min(_MOST_TOKENS_PER_CALL, len(tokens.rows)) if batch is None else batch
        plan = self._plan_of(tokens.rows[:per_call], strategy, variant, repair, skip, threads, isa, planner)
        if mask not in (False, True, "exact"):
            raise ValueError(f'mask must be True, False or "exact" (got {mask!r})')
        y, active, stats = _native.run(
            self._layer, tokens.rows, plan.to_json(), per_call, threads, isa, bool(mask), mask == "exact"
        )
        y = tokens.shaped(y)
        if not return_stats and not mask:
            return y
        stats["plan"] = plan
        return Run(
            y, None if active is None else tokens.shaped(active.view(np.bool_)), stats if return_stats else None
        )

    def _plan_of(
        self,
        first_call: npt.NDArray[np.float32],
        strategy: Union[str, Plan],
        variant: Optional[str],
        repair: Optional[str],
        skip: bool,
        threads: int,
        isa: Optional[str],
        planner: str,
    ) -> Plan:
        if not isinstance(strategy, Plan) and strategy != "auto":
            return self.plan(strategy, variant=variant, repair=repair, skip=skip, batch=max(len(first_call), 1))
        if variant is not None or repair is not None:
            raise ValueError("variant and repair go with strategy sign_split only")
        if isinstance(strategy, Plan):
            if skip:
                raise ValueError("skip is a field of the plan: give it there")
            return strategy
        plan = Plan.from_json(_native.choose_plan(self._layer, first_call, planner, threads, isa))
        return plan.replace(skip=True) if skip else plan

    def __repr__(self) -> str:
        d_model, d_ff = self.shape
        return f"FFN(shape=({d_model}, {d_ff}), dtype={self.dtype!r}, activation={self.activation!r}, gated={self.gated})"
