"""The PyTorch half of `test_kind_parity.py`, run by the interpreter that has PyTorch and PEFT.

`write DIR` makes bases and PEFT's adapters of every kind and says what they compute and learn;
`read DIR` says what the adapters and merged models compute that the other half wrote.
"""

import copy
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import torch
import transformers
from kind_cases import CASES, CONVERTED, ENDING, FROM_PEFT, SHAPES
from peft import LoraConfig, PeftModel, get_peft_model
from torch_loading import loaded


def seed(name):
    """What is drawn for a case does not depend on those before it."""
    torch.manual_seed(zlib.crc32(name.encode()))


def make_inputs(directory):
    """Rows of several lengths, padded on the right."""
    mask = (np.arange(12) < np.array([[12], [7], [2]])).astype("int32")
    ids = np.random.default_rng(0).integers(97, size=mask.shape).astype("int32")
    np.savez(directory / "inputs.npz", token_ids=ids, attention_mask=mask)


def logits(model, directory):
    """Float32 [3, 12, 97], with its gradient."""
    with np.load(directory / "inputs.npz") as inputs:
        ids, mask = (torch.tensor(inputs[name]).long() for name in ("token_ids", "attention_mask"))
    return model.eval()(input_ids=ids, attention_mask=mask).logits


def learnt(model, directory, name):
    """The gradient of a sum over real tokens for every weight that is trained, by its name."""
    found = logits(model, directory)
    with np.load(directory / "inputs.npz") as inputs:
        real = torch.tensor(inputs["attention_mask"])[..., None]
    model.zero_grad()
    (torch.tanh(found) * real).sum().backward()
    results = {name: found.detach().numpy()}
    for at, parameter in model.named_parameters():
        if parameter.requires_grad:
            results[f"{name}/gradient/{plain(at)}"] = parameter.grad.numpy()
    return results


def plain(name):
    """A parameter's name as adapters' files have it."""
    for part in (".modules_to_save", ".default"):
        name = name.replace(part, "")
    return name.replace("lora_magnitude_vector.weight", "lora_magnitude_vector")


def disturb(model, trained_only=False):
    """Makes every weight matter: LoRA's B, biases and gains too."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad or not trained_only:
                parameter += torch.randn_like(parameter) * 0.2


def write(directory):
    """Bases in base/, adapters in adapters/, what they compute and learn in outputs.npz."""
    make_inputs(directory)
    bases, results = {}, {}
    for family, fields in SHAPES.items():
        seed(family)
        config = transformers.AutoConfig.for_model(family, **fields)
        bases[family] = transformers.AutoModelForCausalLM.from_config(config)
        disturb(bases[family])
        bases[family].save_pretrained(directory / "base" / family)
        results[family] = logits(bases[family], directory).detach().numpy()
    for name in FROM_PEFT:
        case = CASES[name]
        seed(name)
        settings = LoraConfig(task_type="CAUSAL_LM", **case.peft)
        model = get_peft_model(copy.deepcopy(bases[case.family]), settings)
        before = directory / "before" / name
        model.save_pretrained(before)
        disturb(model, trained_only=True)
        model.save_pretrained(directory / "adapters" / name)
        results |= learnt(model, directory, name)
        if name in CONVERTED:
            place = directory / "adapters" / (name + ENDING)
            model.save_pretrained(place, path_initial_model_for_weight_conversion=str(before))
    np.savez(directory / "outputs.npz", **results)


def read(directory):
    """What the adapters compute on their bases, merged and not; no weight may be left out."""
    results = {}
    for place in sorted((directory / "adapters").iterdir()):
        base = loaded(directory / "base" / place.name)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # PEFT only warns of keys missing or unexpected
            warnings.filterwarnings("ignore", "Model has `tie_word_embeddings=True`")
            model = PeftModel.from_pretrained(base, place)
        results[place.name] = logits(model, directory).detach().numpy()
        merged = loaded(directory / "merged" / place.name)
        results[f"{place.name}/merged"] = logits(merged, directory).detach().numpy()
    np.savez(directory / "read.npz", **results)


if __name__ == "__main__":
    torch.set_num_threads(1)
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
