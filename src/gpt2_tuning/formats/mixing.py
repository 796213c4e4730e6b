"""Several adapters of one base made into one: arrays in, arrays out, as PEFT's mixing does it.

`linear`, `ties` and the two of DARE mix A with A and B with B, each with the root of its share, so
that their product is the mixture where all adapters are the same and near it where they are alike.
`cat` puts the factors side by side: that is exactly the sum of the updates, of a rank that is the
sum of theirs.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal, get_args

import numpy as np

from gpt2_tuning.checks import is_number, is_share, shown
from gpt2_tuning.config import LoRAConfig, LoRAUpdate
from gpt2_tuning.errors import UserError
from gpt2_tuning.layer_names import Layer, pattern_of

Method = Literal["linear", "cat", "ties", "dare_linear", "dare_ties"]
Weights = Mapping[str, np.ndarray]
"""Factors by their names in adapters; A is (rank, inputs), B (outputs, rank), as in files."""


def mixed(
    adapters: Sequence[tuple[LoRAConfig, Weights]],
    shares: Sequence[float],
    method: Method,
    density: float = 0.5,
    seed: int = 0,
) -> tuple[LoRAConfig, dict[str, np.ndarray]]:
    """One adapter of several, whose scaling is 1.

    Args:
        adapters: their configs and factors, of the same targets.
        shares: how much each counts.
        method: `linear`, a weighted sum of factors; `cat`, which is exact; `ties`, Yadav et al.
            2023 (https://arxiv.org/abs/2306.01708); `dare_linear` and `dare_ties`, Yu et al. 2024
            (https://arxiv.org/abs/2311.03099).
        density: of the last three, the share of each factor's numbers that is kept: by TIES the
            largest, by DARE any, which then stand for the others.
        seed: of DARE's choice.

    Raises:
        UserError: their targets differ, or their ranks where they may not.
    """
    configs = [config for config, _ in adapters]
    names = sorted({name.rpartition(".lora_")[0] for _, weights in adapters for name in weights})
    layers = {name: layer_of(name, configs[0].targets) for name in names}
    check_alike(configs, layers, method)
    random = np.random.default_rng(seed)
    mixture: dict[str, np.ndarray] = {}
    for name, layer in layers.items():
        scalings = [update_of(config, layer).scaling for config in configs]
        factors = [share * scaling for share, scaling in zip(shares, scalings, strict=True)]
        a, b = (
            [weights[f"{name}.lora_{factor}.weight"] for _, weights in adapters]
            for factor in ("A", "B")
        )
        if method == "cat":
            scaled = [np.float32(f) * one for f, one in zip(factors, a, strict=True)]
            both = np.concatenate(scaled, axis=0), np.concatenate(b, axis=1)
        else:
            roots = np.sqrt(np.abs(factors)).astype(np.float32)
            # The sign stands on one side only, else two of them would be none.
            signed = roots * np.where(np.array(factors) < 0, -1, 1).astype(np.float32)
            both = (
                combined(a, signed, method, density, random),
                combined(b, roots, method, density, random),
            )
        mixture |= dict(zip((f"{name}.lora_A.weight", f"{name}.lora_B.weight"), both, strict=True))
    return config_of(configs[0], ranks_of(configs, layers.values(), method)), mixture


def check_asked(count: int, shares: Sequence[float], method: str, density: float) -> None:
    """Raises UserError where so many adapters cannot be mixed in such a way."""
    if count < 2:
        raise UserError("a mixture is of two adapters or more")
    if len(shares) != count:
        raise UserError(f"there are {len(shares)} shares of {count} adapters: give one for each")
    for share in shares:
        if not is_share(share):
            raise UserError(f"an adapter's share must be a finite number, not {shown(share)}")
    if method not in get_args(Method):
        raise UserError(f"method must be one of {', '.join(get_args(Method))}, not {shown(method)}")
    if not is_number(density) or not 0 < density <= 1:
        raise UserError(f"density must be above 0 and at most 1, not {shown(density)}")


def layer_of(name: str, targets: Sequence[str]) -> Layer:
    """The block and the target of a layer's name as files have it.

    Raises:
        UserError: it is no layer of these targets.
    """
    target = next((target for target in targets if name.endswith(f".{target}")), None)
    if target is None:
        raise UserError(f"{name} is adapted in some only: adapters of the same layers are mixed")
    return next(int(part) for part in name.split(".") if part.isdigit()), target


def ranks_of(
    configs: Sequence[LoRAConfig], layers: Iterable[Layer], method: Method
) -> dict[Layer, int]:
    """The rank that a mixture has in each layer."""
    added = configs if method == "cat" else configs[:1]
    return {layer: sum(update_of(config, layer).rank for config in added) for layer in layers}


def update_of(config: LoRAConfig, layer: Layer) -> LoRAUpdate:
    """The update of a layer that is adapted."""
    block, target = layer
    update = config.update_of(target, block)
    assert update is not None
    return update


def config_of(first: LoRAConfig, ranks: Mapping[Layer, int]) -> LoRAConfig:
    """The config of a mixture with these ranks that scales by 1."""
    rank = max(ranks.values())
    others = pattern_of(ranks, rank)
    return LoRAConfig(
        rank=rank,
        alpha=rank,
        dropout=first.dropout,
        targets=first.targets,
        rank_pattern=others,
        alpha_pattern=dict(others),
        layers=first.layers,
        exclude=first.exclude,
    )


def check_alike(configs: Sequence[LoRAConfig], layers: Mapping[str, Layer], method: Method) -> None:
    """Raises UserError where adapters cannot be mixed, by what differs."""
    first, *others = configs
    for number, other in enumerate(others, start=2):
        if set(other.targets) != set(first.targets):
            raise UserError(
                f"adapter 1 has the targets {', '.join(sorted(first.targets))}, adapter {number} "
                f"{', '.join(sorted(other.targets))}: only adapters of the same layers are mixed"
            )
        for name, (block, target) in layers.items():
            found = [config.update_of(target, block) for config in (first, other)]
            if None in found:
                has = 1 if found[0] else number
                raise UserError(
                    f"only adapter {has} of 1 and {number} adapts {name}: only adapters of the "
                    "same layers are mixed"
                )
            ranks = [update_of(config, (block, target)).rank for config in (first, other)]
            if ranks[0] != ranks[1] and method != "cat":
                raise UserError(
                    f"{name} has rank {ranks[0]} in adapter 1 and {ranks[1]} in adapter {number}:"
                    " only the method cat mixes different ranks"
                )


def combined(
    factors: Sequence[np.ndarray],
    weights: np.ndarray,
    method: Method,
    density: float,
    random: np.random.Generator,
) -> np.ndarray:
    """One factor of several of the same shape, float32."""
    if method == "ties":
        factors = [largest(factor, density) for factor in factors]
    elif method != "linear":
        factors = [dropped(factor, density, random) for factor in factors]
    stacked = np.stack(factors)
    weighted = stacked * weights.reshape(-1, *[1] * (stacked.ndim - 1))
    if not method.endswith("ties"):
        return weighted.sum(axis=0)
    # TIES: the sign with the larger sum is elected, and the mean is of those that have it.
    elected = np.where(stacked.sum(axis=0) >= 0, 1, -1)
    agree = np.sign(stacked) == elected
    return (weighted * agree).sum(axis=0) / np.maximum(agree.sum(axis=0), 1).astype(np.float32)


def largest(factor: np.ndarray, density: float) -> np.ndarray:
    """The factor with its largest numbers alone, a share of them; all others are 0."""
    if density >= 1:
        return factor
    count, sizes = int(density * factor.size), np.abs(factor).ravel()
    kept = np.zeros(factor.size, bool)
    kept[np.argsort(-sizes, kind="stable")[:count]] = True
    return np.where(kept.reshape(factor.shape), factor, np.float32(0))


def dropped(factor: np.ndarray, density: float, random: np.random.Generator) -> np.ndarray:
    """The factor with a random share of its numbers, made larger to stand for the others."""
    if density >= 1:
        return factor
    kept = random.random(factor.shape) < density
    return np.where(kept, factor / np.float32(density), np.float32(0))
