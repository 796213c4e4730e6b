"""How an export is used, in a few lines of Python for its card."""

from collections.abc import Mapping, Sequence

from gpt2_tuning.commands.export_runs import FinishedRun
from gpt2_tuning.data.prompts import Template

PAIR = """\
import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{place}")
model = AutoModelForSequenceClassification.from_pretrained("{place}")
premise, hypothesis = tokenizer(["...", "..."], add_special_tokens=False).input_ids
ids = torch.tensor([[{start}*premise, tokenizer.eos_token_id, *hypothesis]])
print(model.config.id2label[int(model(ids).logits.argmax())])"""
LABEL = """\
from transformers import pipeline

print(pipeline("text-classification", "{place}")("..."))"""
WRITE = """\
from transformers import pipeline

prompt = {prompt}
write = pipeline("text-generation", "{place}", return_full_text=False)
print(write(prompt, max_new_tokens=64)[0]["generated_text"])"""
ADAPTER = """\
from peft import {loader}

model = {loader}.from_pretrained("{place}"{classes})  # with its base"""
LOAD = """\
import tensorflow as tf

model = tf.saved_model.load("{place}")"""
CALL = """\
print(model.signatures["{name}"]({arguments}))  # {answers}"""


def of_whole(run: FinishedRun, place: str) -> str:
    """With transformers."""
    if run.classifies:
        start = "" if run.metadata.tokenizer.start is None else "tokenizer.bos_token_id, "
        return python((PAIR if len(run.texts) == 2 else LABEL).format(place=place, start=start))
    prompt = '"..."'
    if run.chat:
        prompt = '[{"role": "user", "content": "..."}]'
    elif run.metadata.template:
        prompt = repr(Template.from_metadata(run.metadata.template).prompt("..."))
    return python(WRITE.format(place=place, prompt=prompt))


def of_adapter(run: FinishedRun, place: str) -> str:
    """With PEFT."""
    loader, classes = "AutoPeftModelForCausalLM", ""
    if run.classifies:
        loader = "AutoPeftModelForSequenceClassification"
        classes = f", num_labels={len(run.metadata.label_names or [])}"
    return python(ADAPTER.format(loader=loader, place=place, classes=classes))


def of_graph(runs: Sequence[FinishedRun], inputs: Mapping[str, Sequence[str]], place: str) -> str:
    """With TensorFlow alone.

    Args:
        runs: what is exported.
        inputs: the names of each signature's inputs, in the runs' order.
        place: of the SavedModel.
    """
    lines = [LOAD.format(place=place)]
    for run, (name, names) in zip(runs, inputs.items(), strict=True):
        texts = run.reads_texts
        value = 'tf.constant(["..."])' if texts else "tf.constant([[1, 2, 3]])"
        answers = "label, probabilities, classes"
        if not run.classifies:
            answers = "text" if texts else "token_ids, attention_mask"
        arguments = ", ".join(f"{one}={value}" for one in names)
        lines.append(CALL.format(name=name, arguments=arguments, answers=answers))
    return python("\n".join(lines))


def python(code: str) -> str:
    """Code as Markdown."""
    return f"```python\n{code}\n```"
