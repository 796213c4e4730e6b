"""What PEFT's `modules_to_save` names: whole modules that are tuned beside the updates."""

from collections.abc import Iterable, Mapping
from typing import Any

from gpt2_tuning.checks import shown
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import Family, FamilyConfig
from gpt2_tuning.families.known import FAMILIES

INSTEAD = "merge the adapter into its base with PEFT (merge_and_unload) and take that as the base"
HEADS = ("score", "classifier")
"""What `modules_to_save` may name: PEFT's words for a classifier's head, of which a GPT-2 has the
first."""


def check_saved(fields: Mapping[str, Any]) -> None:
    """Raises UserError for a module that no family has; no weight is asked for that."""
    known = dict.fromkeys(
        name for family in FAMILIES.values() for name in (*family.whole_modules, family.head_module)
    )
    for name in fields.get("modules_to_save") or []:
        if name.rpartition(".")[2] not in (*known, *HEADS):
            names = ", ".join(known)
            raise UserError(
                f"modules_to_save names {shown(name)}: only {names} and a classifier's score are "
                f"read; {INSTEAD}"
            )
    if fields.get("ensure_weight_tying") and fields.get("modules_to_save"):
        raise UserError("ensure_weight_tying=True is not supported beside modules_to_save")


def saved_name(module: str, inner: str, family: Family) -> str:
    """A module as `modules_to_save` names it: PEFT takes whatever ends so, such as every norm."""
    return module if module == family.head_module else inner + module


def saved_modules(fields: Mapping[str, Any], prefix: str, family: Family) -> list[str]:
    """The modules that are tuned whole, but for a classifier's head, by PEFT's rule.

    Raises:
        UserError: one is inside a block, or none.
    """
    weights = family.weights(config_of(family).decoder)
    modules = dict.fromkeys(stored.name.rpartition(".")[0] for stored in weights)
    places = {**{prefix + name: name for name in modules}, family.head_module: family.head_module}
    found: set[str] = set()
    whole = (*family.whole_modules, family.head_module)
    for name in fields.get("modules_to_save") or []:
        hits = [module for place, module in places.items() if place.endswith(name)]
        if name in HEADS and not hits:
            continue
        wrong = [hit for hit in hits if hit not in whole]
        if wrong or not hits:
            what = f", which PEFT takes for {wrong[0]} too" if wrong else ""
            alone = [prefix + hit for hit in hits if hit in whole] if prefix else []
            also = f" ({alone[0]} names one of them alone)" if alone else ""
            raise UserError(
                f"modules_to_save names {shown(name)}{what}: only {', '.join(whole)} and a "
                f"classifier's score are read{also}; {INSTEAD}"
            )
        if fields.get("bias") == "all":
            check_biases(name, hits, family)
        found |= set(hits)
    return [module for module in places.values() if module in found]


def check_biases(name: str, modules: Iterable[str], family: Family) -> None:
    """Raises UserError where a module has a bias, which PEFT's bias='all' tunes as well."""
    for module in modules:
        if any(weight.endswith(".bias") for weight in family.whole_modules.get(module, ())):
            raise UserError(
                f"bias='all' and modules_to_save={shown(name)} both tune {module}.bias, which is "
                f"not supported; {INSTEAD}"
            )


def config_of(family: Family) -> FamilyConfig:
    """Some config of a family, whose blocks have the names of all."""
    return next(iter(family.sizes.values()))
