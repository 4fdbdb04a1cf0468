"""Plans: schedules as plain data."""

from __future__ import annotations

import dataclasses
import json
from typing import Any, Optional

from . import _native


@dataclasses.dataclass(frozen=True)
class Plan:
    """A schedule. It fixes every order of additions: with the weights and x it determines every bit of y.

    strategy     "unfused", "row_fused", "sign_split" or "certified"
    variant      of sign_split: "interim", "streams", "telescoping", "ignore"; else "none"
    repair       of sign_split: "selective", "full", "redo", "none"; else "none"
    skip         do not read rows of W2 that nothing is added from; never changes bits
    launch       "one_region" or "region_per_phase"; never changes bits
    accumulators partial sums of a dot product, always 64
    parts        ranges of hidden units, the leaves of the sum that gives y
    hidden_tile  hidden units per tile
    k_tile       elements of x per tile, a multiple of 64; 0 is all of them
    reduce_tile  columns of y per item of the last phase, a multiple of 64; never changes bits
    plane_bits   of certified: bits of the plane that proves units closed, 2 to 8; else 0. Never changes bits of y
    plane_group  of certified: elements that share a scale, a multiple of 64; else 0. Never changes bits of y
    placement    of certified: where the full weights are, "beside" the plane or in a "residual"; else "none"
    """

    strategy: str = "row_fused"
    variant: str = "none"
    repair: str = "none"
    skip: bool = False
    launch: str = "one_region"
    accumulators: int = 64
    parts: int = 1
    hidden_tile: int = 32
    k_tile: int = 0
    reduce_tile: int = 512
    plane_bits: int = 0
    plane_group: int = 0
    placement: str = "none"

    @staticmethod
    def default(
        shape: tuple[int, int],
        strategy: str = "row_fused",
        *,
        variant: Optional[str] = None,
        repair: Optional[str] = None,
        skip: bool = False,
        activation: str = "relu",
        gated: bool = False,
        batch: int = 1,
    ) -> Plan:
        """The plan that `run` uses for a layer of `shape` (D, F) and calls of `batch` tokens. Depends on its arguments only, never on the machine."""
        d_model, d_ff = shape
        return Plan.from_json(
            _native.default_plan(d_model, d_ff, activation, gated, strategy, variant, repair, skip, batch)
        )

    @staticmethod
    def from_json(text: str) -> Plan:
        """The plan of a JSON object; missing keys keep their defaults, unknown keys and names are a ValueError."""
        return Plan(**json.loads(_native.complete_plan(text)))

    def to_json(self) -> str:
        """One line of JSON with every field, the same as the command prints."""
        return _native.complete_plan(json.dumps(dataclasses.asdict(self)))

    def replace(self, **changes: Any) -> Plan:
        """A copy with some fields changed."""
        return dataclasses.replace(self, **changes)

    def validate(self, shape: tuple[int, int], *, activation: str = "relu", gated: bool = False) -> None:
        """Raises ValueError with the broken rule when the plan is not one for a layer of `shape` (D, F)."""
        d_model, d_ff = shape
        _native.validate_plan(self.to_json(), d_model, d_ff, activation, gated)

    @property
    def label(self) -> str:
        """Short name: "row_fused+skip", "sign_split/interim/selective"."""
        return _native.plan_label(self.to_json())
