"""How classifier.keras and classifier.npz were made, once: a new version reads them as they are."""

from pathlib import Path

import keras
import numpy as np
from lora_models import batch, outputs, small_model

from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.training.objectives import Accuracy, CrossEntropy

HERE = Path(__file__).parent
CONFIG = GPT2Config(n_layer=2, n_embd=16, n_head=2, n_positions=16, vocab_size=61)
LORA = {"rank": 2, "alpha": 4, "dropout": 0.25, "targets": ["attn.c_attn", "mlp.c_proj"]}

if __name__ == "__main__":
    model = small_model(GPT2Classifier, CONFIG, LORA, label_names=["no", "maybe", "yes"])
    model.freeze_all_but_lora()
    model.compile(keras.optimizers.AdamW(1e-3), CrossEntropy(), weighted_metrics=[Accuracy()])
    model.save(HERE / "classifier.keras")
    inputs = batch(CONFIG)
    np.savez_compressed(HERE / "classifier.npz", **inputs, logits=outputs(model, inputs))
