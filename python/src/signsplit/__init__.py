"""Exact, fused ReLU feed-forward networks for decoding.

    y = W2·act(W1·x + b1) + b2,   or gated   y = W2·(act(Wg·x + bg) ⊙ (W1·x + b1)) + b2

>>> ffn = signsplit.FFN.from_safetensors("layer.safetensors")
>>> y = ffn.run(x)                                    # x [N, D] float32 -> y [N, D]
>>> exact = signsplit.reference(ffn, x).y             # the real-number result, rounded once
>>> golden = signsplit.Golden.make(ffn, x)            # with bounds for every f32 kernel, whatever its order of additions
>>> print(signsplit.check(my_kernel(x), golden))

D (d_model) is the width of x and y, F (d_ff) the number of hidden units, N the number of tokens. Weights are float32 or
bfloat16, activations and results float32. The same plan gives the same bits on every instruction set, with any number of
threads, from C, C++, the command and Python.

Errors are ValueError (a value that breaks a rule, a damaged file), TypeError (an element type), FileNotFoundError and
OSError, LookupError (a tensor, a model or a machine that is not there) and NotImplementedError (well-formed, but not
supported by this version or this machine); the message is one line that names what was wrong.
"""

from ._native import hardware, models, supported_isas, version
from .checking import CheckReport, Golden, check
from .ffn import FFN, Run
from .plan import Plan
from .prediction import predict
from .reference import Reference, error_bound, reference, ulp_distance

__version__ = version()

__all__ = [
    "FFN",
    "CheckReport",
    "Golden",
    "Plan",
    "Reference",
    "Run",
    "check",
    "error_bound",
    "hardware",
    "models",
    "predict",
    "reference",
    "supported_isas",
    "ulp_distance",
]
