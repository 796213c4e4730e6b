"""The PyTorch half of the families' parity tests; see `torch_side.py`.

`write DIR` makes random bases of every case and PEFT adapters, and says what they compute; `read
DIR` says what the exports and adapters compute that the other half wrote.
"""

import copy
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from family_cases import CASES, SHAPES, TARGETS
from peft import LoraConfig, PeftModel, get_peft_model
from torch_loading import loaded

EAGER = {"attn_implementation": "eager"}
LENGTHS = (14, 9, 3)
NEW = 8


def make_inputs(directory):
    """Rows of several lengths, padded on the right, on the left and not at all."""
    rng = np.random.default_rng(0)
    rows = [rng.integers(97, size=length) for length in LENGTHS]
    arrays: dict[str, Any] = {}
    for side in ("right", "left"):
        ids, mask = np.zeros((3, 14), "int32"), np.zeros((3, 14), "int32")
        for row, tokens in enumerate(rows):
            place = slice(len(tokens)) if side == "right" else slice(14 - len(tokens), 14)
            ids[row, place], mask[row, place] = tokens, 1
        arrays |= {f"{side}_ids": ids, f"{side}_mask": mask}
    np.savez(directory / "inputs.npz", **arrays)


def tensors(directory, side):
    """Ids, mask and positions, as transformers takes them."""
    with np.load(directory / "inputs.npz") as inputs:
        ids, mask = (torch.tensor(inputs[f"{side}_{name}"]).long() for name in ("ids", "mask"))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    return {"input_ids": ids, "attention_mask": mask, "position_ids": positions}


def logits(model, directory, side="right"):
    """Float32 [3, 14, 97], or [3, 3] of a classifier."""
    model.eval()
    with torch.no_grad():
        return model(**tensors(directory, side)).logits.numpy()


def randomize(model, trained_only=False):
    """Makes every weight matter: biases and gains too."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or not trained_only:
            gain = name.endswith("weight") and ("norm" in name or ".ln_" in f".{name}")
            torch.nn.init.normal_(parameter, 1.0 if gain else 0.0, 0.2)


def loss_and_gradients(model, directory, name):
    """The mean cross-entropy of the next tokens, and its gradient for every weight."""
    inputs = tensors(directory, "right")
    labels = torch.where(inputs["attention_mask"] == 1, inputs["input_ids"], -100)[:, 1:]
    found = model(**inputs).logits[:, :-1]
    loss = torch.nn.functional.cross_entropy(found.flatten(0, 1), labels.flatten())
    model.zero_grad()
    loss.backward()
    results = {f"{name}/loss": loss.detach().numpy()}
    for at, parameter in model.named_parameters():
        results[f"{name}/gradient/{at}"] = parameter.grad.numpy()
    return results


def made(family, fields, kind="AutoModelForCausalLM", **more):
    """A random model of a family."""
    config = transformers.AutoConfig.for_model(family, **{**SHAPES[family], **fields}, **more)
    config._attn_implementation = "eager"
    model = getattr(transformers, kind).from_config(config, attn_implementation="eager")
    randomize(model)
    return model.float()


def write(directory):
    """Bases in base/, adapters in adapters/, what they compute in outputs.npz."""
    make_inputs(directory)
    results = {}
    for name, case in CASES.items():
        model = made(case.family, case.fields)
        model.save_pretrained(directory / "base" / name)
        for side in ("right", "left"):
            results[f"{name}/{side}"] = logits(model, directory, side)
        results |= loss_and_gradients(model, directory, name)
        left = tensors(directory, "left")
        left.pop("position_ids")  # generation makes its own
        tokens = model.generate(**left, do_sample=False, max_new_tokens=NEW, pad_token_id=0)
        results[f"{name}/greedy"] = tokens[:, 14:].numpy()
    for family, targets in TARGETS.items():
        for number, wanted in enumerate(targets):
            base = made(family, {})
            base.save_pretrained(directory / "adapted" / f"{family}-{number}")
            wanted = list(wanted) if isinstance(wanted, tuple) else wanted
            settings = LoraConfig(task_type="CAUSAL_LM", r=4, lora_alpha=6, target_modules=wanted)
            model = get_peft_model(copy.deepcopy(base), settings)
            randomize(model, trained_only=True)
            model.save_pretrained(directory / "adapters" / f"{family}-{number}")
            results[f"{family}-{number}/adapted"] = logits(model, directory)
        kind = "AutoModelForSequenceClassification"
        classifier = made(family, {}, kind, num_labels=3, pad_token_id=96)
        classifier.save_pretrained(directory / "classifier" / family)
        results[f"{family}/classes"] = classes(classifier, directory)
    np.savez(directory / "outputs.npz", **results)


def classes(model, directory):
    """A classifier's logits; it finds a row's end by the padding's id."""
    inputs = tensors(directory, "right")
    inputs["input_ids"] = torch.where(inputs["attention_mask"] == 1, inputs["input_ids"] % 96, 96)
    with torch.no_grad():
        return model.eval()(**inputs).logits.numpy()


def read(directory):
    """What the models compute that the other half wrote; every weight must be in the files."""
    results = {}
    for place in sorted((directory / "base").iterdir()):
        base = loaded(place, **EAGER)
        results[f"{place.name}/base"] = logits(base, directory)
        results[f"{place.name}/merged"] = logits(
            loaded(directory / "merged" / place.name, **EAGER), directory
        )
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # PEFT only warns of keys missing or unexpected
            model = PeftModel.from_pretrained(base, directory / "adapters" / place.name)
        results[f"{place.name}/adapted"] = logits(model, directory)
    np.savez(directory / "read.npz", **results)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    {"write": write, "read": read}[sys.argv[1]](Path(sys.argv[2]))
