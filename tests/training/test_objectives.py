"""What `compile` takes gives the scripts' figures on the library's batches, weights and all."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from gpt2_tuning.data.datasets import classification_dataset, instruction_dataset
from gpt2_tuning.models.gpt2_classifier import GPT2Classifier
from gpt2_tuning.models.gpt2_language_model import GPT2LanguageModel
from gpt2_tuning.training.objective import objective_of
from gpt2_tuning.training.objectives import Accuracy, CrossEntropy, Perplexity
from gpt2_tuning.training.steps import add, means
from gpt2_tuning.training.strategy import make_strategy

pytestmark = pytest.mark.usefixtures("all_bits")

LENGTHS = (3, 1, 9, 4, 2, 30, 5)
LAYOUTS = pytest.mark.parametrize("layout", ["padded", "buckets", "packed"])


@pytest.fixture
def classifier(text_config):
    return GPT2Classifier(text_config, 3).built_now()


@pytest.fixture
def language_model(text_config):
    return GPT2LanguageModel(text_config).built_now()


def labelled(layout):
    texts = ["up " * length for length in LENGTHS]
    return classification_dataset(texts, [0, 2, 1, 0, 1, 2, 2], batch_size=3, layout=layout)


def instructions(layout):
    """Of which the widest batch has many times as many targets as the narrowest."""
    responses = ["down " * length for length in LENGTHS]
    return instruction_dataset(
        ["up"] * len(responses), responses, batch_size=2, seq_len=64, layout=layout
    )


def scripts_sums(model, inputs, targets, weights=None):
    """The sums by which the scripts train and evaluate, of one batch."""
    weights = np.ones(targets.shape, np.float32) if weights is None else weights
    loss, hits = objective_of(model).sums(inputs, targets, weights, training=False)
    return {"loss": float(loss), "hits": float(hits), "weight": float(np.sum(weights))}


def check(model, dataset):
    """Keras's figures of the first batch, and of the whole split, are the scripts'."""
    elements = list(dataset)
    sums: dict[str, float] = {}
    batch = scripts_sums(model, *elements[0])
    for element in elements:
        add(sums, scripts_sums(model, *element))
    split = means(sums)
    model.compile(loss=CrossEntropy(), weighted_metrics=[Accuracy(), Perplexity()])
    loss = CrossEntropy()(elements[0][1], model(elements[0][0]), *elements[0][2:])
    found = model.evaluate(dataset, verbose=0, return_dict=True)
    np.testing.assert_allclose(loss, batch["loss"] / batch["weight"], rtol=1e-5)
    np.testing.assert_allclose(found["accuracy"], split["accuracy"], atol=1e-6)
    np.testing.assert_allclose(found["perplexity"], np.exp(split["loss"]), rtol=1e-5)


@LAYOUTS
def test_a_classifiers_figures_are_the_scripts(classifier, layout):
    check(classifier, labelled(layout))


@LAYOUTS
def test_a_language_models_figures_are_the_scripts(language_model, layout):
    check(language_model, instructions(layout))


def test_a_step_of_fit_is_that_of_the_scripts_loss(classifier):
    """Padding places in the batch take nothing from the gradient."""
    batches = list(labelled("packed"))
    inputs, targets, weights = min(batches, key=lambda batch: float(tf.reduce_sum(batch[2])))
    assert 0 < np.sum(weights) < weights.numpy().size
    with tf.GradientTape() as tape:
        loss = objective_of(classifier).sums(inputs, targets, weights, training=False)[
            0
        ] / tf.reduce_sum(weights)
    gradient = tape.gradient(loss, classifier.score.kernel.value)
    before = classifier.score.kernel.numpy()
    classifier.compile(keras.optimizers.SGD(1.0), CrossEntropy())
    classifier.train_on_batch(inputs, targets, weights)
    np.testing.assert_allclose(before - classifier.score.kernel.numpy(), gradient, atol=1e-5)


@pytest.mark.parametrize("weights", [[[1.0, 0.5, 2.0], [1.0, 0.0, 0.0]], [[0.0] * 3] * 2, None])
def test_the_losses_of_replicas_add_up_to_that_of_their_batch(weights):
    """Though the rows of one have another weight than those of the other."""
    labels, scores = np.array([[0, 1, 1], [1, 0, 0]]), np.random.randn(2, 3, 2)
    batch = [part if part is None else tf.constant(part) for part in (labels, scores, weights)]
    strategy = make_strategy("mirrored")

    def loss_of_a_row():
        row = tf.distribute.get_replica_context().replica_id_in_sync_group
        return CrossEntropy()(*(part if part is None else part[row : row + 1] for part in batch))

    losses = strategy.run(tf.function(loss_of_a_row))
    total = strategy.reduce("SUM", losses, axis=None)
    np.testing.assert_allclose(total, CrossEntropy()(*batch), rtol=1e-5)


def test_tokens_of_wide_and_narrow_batches_count_the_same():
    """In Keras's own metrics a token of the second batch would count for a third of one here."""
    right, wrong = [0.0, 9.0], [9.0, 0.0]
    metrics = Accuracy(), Perplexity()
    for metric in metrics:
        metric.update_state([[1]], np.array([[right]], np.float32), [[1.0]])
        scores = np.array([[wrong, wrong, right]], np.float32)
        metric.update_state([[1, 1, 1]], scores, [[1.0, 1.0, 0.0]])
    losses = [np.log1p(np.exp(-9.0)), *[9 + np.log1p(np.exp(-9.0))] * 2]
    np.testing.assert_allclose(metrics[0].result(), 1 / 3, rtol=1e-6)
    np.testing.assert_allclose(metrics[1].result(), np.exp(np.mean(losses)), rtol=1e-5)


@pytest.mark.parametrize("made", [CrossEntropy(), Accuracy("token_accuracy"), Perplexity("ppl")])
def test_a_config_gives_the_same_again(made):
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(made))
    assert (type(again), again.name) == (type(made), made.name)
