"""Adapters that begin as a part of the base's kernel, which the base then goes without.

The layer computes x (W - s A0 B0) + s x A B, where A and B begin as A0 and B0. The base itself
stays as it is: A0 and B0 are kept beside it, and such an adapter is written as the difference of
the two products, [A A0] [B -B0], which any LoRA on the plain base is.
"""

import numpy as np


def beginning(
    kernel: np.ndarray, rank: int, scaling: float, init: str
) -> tuple[np.ndarray, np.ndarray]:
    """A0 [inputs, rank] and B0 [rank, units] of a kernel [inputs, units], float32.

    Args:
        kernel: of the base.
        rank: of the adapter.
        scaling: what its product is multiplied by.
        init: "pissa" is the kernel's largest singular values (PiSSA, Meng et al. 2024,
            https://arxiv.org/abs/2404.02948); "olora" the first columns of its QR decomposition
            (OLoRA, Büyükakyüz 2024, https://arxiv.org/abs/2406.01775).
    """
    kernel = np.asarray(kernel, np.float32)
    if init == "olora":
        q, r = np.linalg.qr(kernel.T)
        return np.ascontiguousarray(r[:rank].T), np.ascontiguousarray(q[:, :rank].T)
    left, sizes, right = np.linalg.svd(kernel, full_matrices=False)
    roots = np.sqrt(sizes[:rank] / np.float32(scaling))
    return left[:, :rank] * roots, roots[:, np.newaxis] * right[:rank]
