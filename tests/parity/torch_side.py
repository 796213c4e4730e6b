"""The PyTorch half of the parity tests, run by the interpreter that has PyTorch and PEFT.

`write DIR` makes random bases and PEFT adapters and says what they compute; `read DIR` says what
the bases and adapters compute that the other half wrote; `score DIR` says which scores transformers
leaves of those that the other half wrote; `mix DIR` mixes adapters that it wrote.
"""

import copy
import json
import sys
import warnings
from pathlib import Path

import numpy as np
import torch
import transformers
from cases import CASES, CLASSES, GENERATIONS, LORAS, MIXTURES, PAD, SHAPE, SHARES, TASKS
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer


def make_inputs(directory):
    """Rows of several lengths, padded on the right."""
    lengths = np.array([12, 7, 1])
    mask = (np.arange(12) < lengths[:, np.newaxis]).astype("int32")
    ids = np.random.default_rng(0).integers(PAD, size=mask.shape)
    ids = np.where(mask, ids, PAD).astype("int32")
    np.savez(directory / "inputs.npz", token_ids=ids, attention_mask=mask)


def outputs(model, directory):
    """Logits, or hidden states where there is no head."""
    inputs = np.load(directory / "inputs.npz")
    model.eval()
    with torch.no_grad():
        result = model(
            input_ids=torch.tensor(inputs["token_ids"], dtype=torch.long),
            attention_mask=torch.tensor(inputs["attention_mask"], dtype=torch.long),
        )
    return (result.logits if "logits" in result else result.last_hidden_state).numpy()


def randomize(model, trained_only=False):
    """Makes every weight matter: LoRA's B, biases and LayerNorms too."""
    for name, parameter in model.named_parameters():
        if parameter.requires_grad or not trained_only:
            mean = 1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0
            torch.nn.init.normal_(parameter, mean, 0.2)


def write(directory):
    """Bases in base/, adapters in adapters/<task>-<lora>/, outputs in outputs.npz."""
    make_inputs(directory)
    results = {}
    for task in TASKS:
        config = transformers.GPT2Config(**SHAPE, num_labels=CLASSES, pad_token_id=PAD)
        base = getattr(transformers, task)(config)
        randomize(base)
        base.save_pretrained(directory / "base" / task)
        results[task] = outputs(base, directory)
        for name, lora in LORAS.items():
            changes = dict(lora)
            settings = LoraConfig(
                task_type=TASKS[task],
                r=changes.pop("rank"),
                lora_alpha=changes.pop("alpha"),
                target_modules=list(changes.pop("targets")),
                **changes,
            )
            model = get_peft_model(copy.deepcopy(base), settings)
            randomize(model, trained_only=True)
            model.save_pretrained(directory / "adapters" / f"{task}-{name}")
            results[f"{task}-{name}"] = outputs(model, directory)
    np.savez(directory / "outputs.npz", **results)


def read(directory):
    """The outputs of all that the other half wrote, and which layers its adapters hit."""
    results, adapted = {}, {}
    for task, name in CASES:
        base = load(directory / "base" / task, task)
        results[task] = outputs(base, directory)
        merged = load(directory / "merged" / f"{task}-{name}", task)
        results[f"merged-{task}-{name}"] = outputs(merged, directory)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # PEFT only warns of keys missing or unexpected
            model = PeftModel.from_pretrained(base, directory / "adapters" / f"{task}-{name}")
        results[f"{task}-{name}"] = outputs(model, directory)
        adapted[f"{task}-{name}"] = [
            at.removeprefix("base_model.model.").removeprefix("transformer.")
            for at, layer in model.named_modules()
            if isinstance(layer, LoraLayer)
        ]
    np.savez(directory / "read.npz", **results)
    (directory / "adapted.json").write_text(json.dumps(adapted))


def score(directory):
    """The scores of every way of GENERATIONS after transformers' processors, in its order."""
    names = {"no_repeat_ngram": "no_repeat_ngram_size"}
    results = {}
    with np.load(directory / "inputs.npz") as inputs:
        for number, values in enumerate(GENERATIONS):
            renamed = {names.get(name, name): value for name, value in values.items()}
            config = transformers.GenerationConfig(
                **{"top_k": 0, **renamed}, do_sample="temperature" in values
            )
            model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**SHAPE))
            processors = model._get_logits_processor(config)
            ids = torch.tensor(inputs["token_ids"], dtype=torch.long)
            scores = processors(ids, torch.tensor(inputs["logits"]))
            results[str(number)] = scores.numpy()
    np.savez(directory / "scores.npz", **results)


def mix(directory):
    """What PEFT's mixtures compute of the two adapters that the other half wrote, by method."""
    results = {}
    for method, density in MIXTURES:
        base = load(directory / "base", "GPT2LMHeadModel")
        model = PeftModel.from_pretrained(base, directory / "a", adapter_name="a")
        model.load_adapter(directory / "b", "b")
        shares = {"combination_type": method, "density": density}
        model.add_weighted_adapter(["a", "b"], list(SHARES), "mixture", **shares)
        model.set_adapter("mixture")
        results[f"{method}-{density}"] = outputs(model, directory)
    np.savez(directory / "mixed.npz", **results)


def load(directory, task):
    """A base as transformers reads it; every weight must be in the files."""
    model, info = getattr(transformers, task).from_pretrained(directory, output_loading_info=True)
    for problem in ("missing_keys", "unexpected_keys", "mismatched_keys"):
        if info[problem]:
            raise SystemExit(f"{directory}: {problem} {info[problem]}")
    model.config.pad_token_id = PAD
    return model


if __name__ == "__main__":
    torch.manual_seed(0)
    {"write": write, "read": read, "score": score, "mix": mix}[sys.argv[1]](Path(sys.argv[2]))
