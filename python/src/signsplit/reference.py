"""The exact reference: what an FFN is, with one rounding at the end."""

from __future__ import annotations

from typing import Any, NamedTuple, Optional, Union

import numpy as np
import numpy.typing as npt

from . import _native, arrays
from .ffn import FFN
from .plan import Plan


class Reference(NamedTuple):
    """An exact result; for x [D] without the first axis.

    y       [N, D] float32
    z       [N, F] float32, pre-activations (of a gated FFN the gate's), rounded once
    h       [N, F] float32, hidden activations
    active  [N, F] bool, where the unit is open: decided on the exact real number
    """

    y: npt.NDArray[np.float32]
    z: npt.NDArray[np.float32]
    h: npt.NDArray[np.float32]
    active: npt.NDArray[np.bool_]


def reference(ffn: FFN, x: Any, mode: str = "composite", *, threads: int = 0) -> Reference:
    """Computes the FFN of x [D] or [N, D] exactly, and releases the GIL meanwhile.

    mode "composite": the real-number value of the whole FFN, rounded once.
    mode "staged": z, h and y are each correctly rounded, which is what an ideal float32 pipeline gives. Of gelu, gelu_tanh and
    silu there is only this; error_bound holds for it too, so that another kernel is within twice the bound of it."""
    if mode not in ("composite", "staged"):
        raise ValueError(f'mode "{mode}" is unknown: known are composite, staged')
    tokens = arrays.tokens(x, ffn.shape[0])
    y, z, h, active = _native.reference(ffn._layer, tokens.rows, mode == "staged", threads)
    return Reference(
        tokens.shaped(y), tokens.shaped(z), tokens.shaped(h), tokens.shaped(active.view(np.bool_))
    )


def error_bound(
    ffn: FFN,
    x: Any,
    strategy: Union[str, Plan] = "row_fused",
    *,
    variant: Optional[str] = None,
    repair: Optional[str] = None,
    skip: bool = False,
) -> npt.NDArray[np.float64]:
    """How far any correct execution of a plan can be from the real-number result, before that is rounded: float64 of
    x's shape, +inf where a value is not finite. Strategy and the rest as in FFN.run ("auto" is not one here).

    The bound is for the plan's own order of additions. For another kernel use Golden.make, whose bounds hold for any."""
    tokens = arrays.tokens(x, ffn.shape[0])
    if isinstance(strategy, Plan):
        plan = strategy
    else:
        plan = ffn.plan(strategy, variant=variant, repair=repair, skip=skip)
    return tokens.shaped(_native.error_bound(ffn._layer, tokens.rows, plan.to_json()))


def ulp_distance(a: Any, b: Any) -> Union[int, npt.NDArray[np.uint64]]:
    """Floats between a and b, element by element: 0 for equal (−0 equals +0, NaN equals NaN), 2⁶⁴ − 1 for a NaN against a
    number. float32 or bfloat16 arrays that broadcast, or two Python floats, which are rounded to float32."""
    left, right = np.broadcast_arrays(_as_float32("a", a), _as_float32("b", b))
    ulps = _native.ulp_distance(
        np.ascontiguousarray(left).reshape(-1), np.ascontiguousarray(right).reshape(-1)
    ).reshape(left.shape)
    return int(ulps) if ulps.ndim == 0 else ulps


def _as_float32(name: str, value: Any) -> npt.NDArray[np.float32]:
    return np.asarray(np.float32(value)) if isinstance(value, (int, float)) else arrays.floats(name, value)
