# Is my MLP right? A ReLU MLP of PyTorch (or of numpy, where torch is not installed) against the exact reference.
#   pip install .[plot] && python examples/06_python_check_mlp.py [PLOT.png]
# %% A layer. A torch.nn.Linear weight is [out, in]: up [F, D] and down [D, F] as signsplit takes them.
import sys

import matplotlib
import numpy as np

matplotlib.use("Agg")  # in a notebook, leave this line out
import matplotlib.pyplot as plt

import signsplit

D, F, N = 256, 1024, 8
rng = np.random.default_rng(1)
w1, w2 = rng.standard_normal((F, D), np.float32) / 16, rng.standard_normal((D, F), np.float32) / 32
b1, b2 = rng.standard_normal(F, np.float32), rng.standard_normal(D, np.float32)
x = rng.standard_normal((N, D), np.float32)


# %% The kernels under test.
def with_torch(x):
    import torch
    import torch.nn.functional as nn

    w1_, b1_, w2_, b2_ = map(torch.from_numpy, (w1, b1, w2, b2))
    return nn.linear(nn.relu(nn.linear(torch.from_numpy(x), w1_, b1_)), w2_, b2_).numpy()


def with_numpy(x, kept_bits=0xFFFFFFFF):
    h = np.maximum(x @ w1.T + b1, 0)
    return (h.view(np.uint32) & np.uint32(kept_bits)).view(np.float32) @ w2.T + b2


kernels = {"numpy": with_numpy, "numpy, hidden units cut to bf16": lambda x: with_numpy(x, 0xFFFF0000)}
try:
    kernels["torch"] = with_torch
    with_torch(x)
except ImportError:
    del kernels["torch"]

# %% What the FFN is, exactly, and how far a correct float32 kernel can be from it.
golden = signsplit.Golden.make(signsplit.FFN.from_arrays(w1, w2, up_bias=b1, down_bias=b2), x)
kernels["signsplit"] = golden.ffn.run
for name, kernel in kernels.items():
    print(f"{name}: {signsplit.check(kernel(x), golden)}")

# %% The errors, sorted.
for name, kernel in kernels.items():
    error = np.abs(kernel(x).astype(np.float64) - golden.y)
    plt.semilogy(np.sort(error.ravel()) + 1e-12, label=name)
plt.semilogy(np.sort(golden.y_bound.ravel()), "k--", label="bound of a float32 kernel")
plt.xlabel("outputs, by error"), plt.ylabel("|y − exact y| + 1e-12"), plt.legend()
plt.savefig(sys.argv[1] if len(sys.argv) > 1 else "mlp_error.png", dpi=120)
