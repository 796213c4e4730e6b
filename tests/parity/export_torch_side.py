"""What transformers and PEFT make of exports; run by the interpreter that has PyTorch.

`read DIR` reads what the other half exported below DIR and asks it the questions of asked.json.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch
import transformers
from peft import AutoPeftModelForCausalLM, AutoPeftModelForSequenceClassification
from torch_loading import loaded


def logits(model, rows):
    """Of each row alone."""
    with torch.no_grad():
        return np.stack([model(torch.tensor([ids])).logits.float().numpy()[0] for ids in rows])


def written(model, tokenizer, ids):
    """What is written after a prompt, greedily, with nothing said but how much."""
    given = torch.tensor([ids])
    out = model.generate(given, attention_mask=torch.ones_like(given), max_new_tokens=12)
    return tokenizer.decode(out[0, len(ids) :], skip_special_tokens=True)


def read(directory):
    """Answers in answers.json and logits.npz."""
    asked = json.loads((directory / "asked.json").read_text())
    answers, arrays = {}, {}
    classifier = transformers.AutoModelForSequenceClassification
    tokenizer = transformers.AutoTokenizer.from_pretrained(directory / "mood")
    answers["ids"] = tokenizer(asked["texts"]).input_ids
    model = loaded(directory / "mood", classifier)
    arrays["mood"] = logits(model, answers["ids"])
    answers["labels"] = model.config.id2label
    piped = transformers.pipeline("text-classification", str(directory / "mood"))
    answers["piped"] = [one["label"] for one in piped(asked["texts"])]
    premise, hypothesis = tokenizer(asked["pair"]).input_ids
    rows = [[*premise, tokenizer.eos_token_id, *hypothesis]]
    arrays["pairs"] = logits(loaded(directory / "pairs", classifier), rows)
    adapted = AutoPeftModelForSequenceClassification
    adapted = adapted.from_pretrained(directory / "mood-adapter", num_labels=6).eval()
    adapted.base_model.model.config.pad_token_id = tokenizer.pad_token_id
    arrays["mood-adapter"] = logits(adapted, answers["ids"])
    for name in ("follow", "talk"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(directory / name)
        model = loaded(directory / name)
        if name == "talk":
            said = {"conversation": asked["messages"], "add_generation_prompt": True}
            answers["chat text"] = tokenizer.apply_chat_template(**said, tokenize=False)
            ids = answers["chat ids"] = tokenizer.apply_chat_template(**said)
        else:
            ids = tokenizer(asked["prompt"]).input_ids
        answers[name] = written(model, tokenizer, ids)
        config = model.generation_config
        answers[f"{name} ends"] = [config.eos_token_id, config.pad_token_id]
    adapted = AutoPeftModelForCausalLM.from_pretrained(directory / "follow-adapter").eval()
    ids = tokenizer(asked["prompt"]).input_ids
    answers["follow-adapter"] = written(adapted, tokenizer, ids)
    (directory / "answers.json").write_text(json.dumps(answers))
    np.savez(directory / "logits.npz", **arrays)


if __name__ == "__main__":
    transformers.logging.set_verbosity_error()
    {"read": read}[sys.argv[1]](Path(sys.argv[2]))
