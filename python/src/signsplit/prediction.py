"""Predicted times, without running anything."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import Any, Optional, Union

from . import _native
from .ffn import Path
from .plan import Plan

_ACTIVE = 0.1


def predict(
    shape: Optional[tuple[int, int]] = None,
    *,
    model: Optional[str] = None,
    dtype: str = "bf16",
    hardware: Path = "host",
    active: Optional[float] = None,
    activation: Optional[str] = None,
    gated: bool = False,
    batch: int = 1,
    residency: str = "cold",
    threads: int = 0,
    isa: Optional[str] = None,
    plans: Optional[Sequence[Union[str, Plan]]] = None,
) -> dict[str, Any]:
    """Predicts the time of schedules on a machine, and which to use: the JSON of `signsplit predict` as a dict.

    shape or model  (D, F), or the name of a published model (signsplit.models())
    hardware        "host" (as `signsplit calibrate` measured this machine, else a guess), a name of signsplit.hardware(), or
                    a machine profile's file
    active          fraction of open units, above 0 and up to 1; default: what is reported for the model, else 0.1 (identity, gelu, … : 1)
    residency       "cold": the weights come from beyond the last-level cache, as in decoding; "warm": the same layer again
    plans           names ("row_fused+skip", "sign_split/interim/selective") or Plans; default: all

    Returns {"cases": [{"label", "time_s", "low_s", "high_s", "terms": {}, "bytes": {}, …}], "decision": {"winner", "loser",
    "gap_s", "uncertainty_s", "verdict"}, "auto": {"label", "source", "time_s", "plan": {}, "gemm", "gemm_s"}}:
    decision is None when there is no fused or no unfused case; auto is what `run` takes for strategy "auto"."""
    request: dict[str, Any] = {"dtype": dtype, "hardware": os.fspath(hardware), "gated": gated, "batch": batch}
    request.update(residency=residency, threads=threads, active=_ACTIVE)
    if (shape is None) == (model is None):
        raise ValueError("needs a shape (D, F) or a model, not both")
    if shape is not None:
        request["d_model"], request["d_ff"] = shape
    else:
        request.update(_shape_of(str(model)))
    if activation is not None:
        request["activation"] = activation
    if not _native.closes_units(request.get("activation", "relu")):
        request["active"] = 1.0
    if active is not None:
        request["active"] = active
    if isa is not None:
        request["isa"] = isa
    if plans is not None:
        request["plans"] = [json.loads(p.to_json()) if isinstance(p, Plan) else p for p in plans]
    answer: dict[str, Any] = json.loads(_native.predict(json.dumps(request)))
    return answer


def _shape_of(model: str) -> dict[str, Any]:
    found = _native.find_model(model)
    zeros = found.pop("reported_zeros")
    if 0 < zeros < 1:
        found["active"] = 1 - zeros
    return found
