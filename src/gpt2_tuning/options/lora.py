"""What the flags of LoRA must come to in a base: what files may hold too is not asked for here."""

from gpt2_tuning.config import LoRAConfig
from gpt2_tuning.errors import UserError
from gpt2_tuning.families.family import FamilyConfig
from gpt2_tuning.families.known import family_of


def check_useful(lora: LoRAConfig, config: FamilyConfig) -> None:
    """Refuses what an adapter may be, but which a user cannot have meant.

    Raises:
        UserError: a rank is above a layer's size, which gains nothing, or there are no biases.
    """
    family = family_of(config)
    targets = {place: target for target, place in family.lora_targets.items()}
    for updates in lora.updates_in(config):
        for place, update in updates.items():
            inputs, outputs = config.decoder.dense[place]
            if update.rank > min(inputs, outputs):
                raise UserError(
                    f"--lora_rank {update.rank} is above the size of {targets[place]}, "
                    f"{inputs} x {outputs}, so a lower rank does the same"
                )
    if lora.bias != "none" and not lora.biases_in(config):
        layers = "layers" if lora.bias == "all" else "adapted layers"
        raise UserError(f"--lora_bias {lora.bias}: the {layers} of this {family.name} have no bias")
