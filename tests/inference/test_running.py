"""A batch that rows join and leave: each goes on as if it were alone."""

import numpy as np
import pytest
from served_models import TOKENIZER, with_adapters

from gpt2_tuning.inference.embedding import Embedder
from gpt2_tuning.inference.generation import generate
from gpt2_tuning.inference.generation_settings import Generation
from gpt2_tuning.inference.penalties import NO_TOKEN
from gpt2_tuning.inference.running import MULTIPLE, RunningBatch
from gpt2_tuning.inference.scoring import SLAB, Scorer
from gpt2_tuning.models.device_choices import CPU, GPU, choosing

pytestmark = pytest.mark.usefixtures("all_bits")
SHORT, LONG = (TOKENIZER.encode("word " * count) for count in (2, 20))
WAYS = [
    Generation(max_new_tokens=24, presence_penalty=1.5),
    Generation(max_new_tokens=12, temperature=1, seed=5, no_repeat_ngram=2),
]


@pytest.fixture(scope="module")
def model():
    return with_adapters()


def wanted(model, prompt, way, adapter):
    [found] = generate(model, [prompt], generation=way, adapters=[adapter])
    return list(found.token_ids)


@pytest.mark.parametrize("prompts", [(SHORT, LONG), (LONG, SHORT)], ids=["longer", "shorter"])
@pytest.mark.parametrize(
    "choices", [CPU, pytest.param(GPU, marks=pytest.mark.slow)], ids=["plain", "compiled"]
)
def test_a_row_that_joins_or_leaves_changes_no_other(model, prompts, choices):
    expected = [wanted(model, *row) for row in zip(prompts, WAYS, ("tone", None), strict=True)]
    with choosing(choices):
        check_joining_and_leaving(model, prompts, expected)


def check_joining_and_leaving(model, prompts, expected):
    batch, said = RunningBatch(model, TOKENIZER), (list[int](), list[int]())

    def take(rows):
        for place, row in zip(rows, batch.advance(4).tolist(), strict=True):
            said[place].extend(row)

    for place, (prompt, way, adapter) in enumerate(zip(prompts, WAYS, ("tone", None), strict=True)):
        new = batch.read([prompt], [0], [way], [adapter])
        said[place].extend(new.tokens.numpy().tolist())
        batch.regroup(list(range(place)), new, [0])
        take(range(place + 1))
    assert len(batch) == 2
    take([0, 1])
    take([0, 1])
    batch.regroup([0])
    take([0])
    take([0])
    assert said[0][:24] == expected[0][: len(said[0])]
    assert said[1][:12] == expected[1]
    batch.regroup([])
    assert len(batch) == 0


@pytest.mark.slow
def test_where_loops_are_compiled_a_batch_has_few_sizes(model):
    way = Generation(max_new_tokens=20)
    with choosing(GPU):
        batch = RunningBatch(model, TOKENIZER)
        sizes, said = [], [list[int]() for _ in range(5)]

        def take(rows):
            for place, row in zip(rows, batch.advance(4).tolist(), strict=True):
                said[place].extend(row)
            assert batch._state
            sizes.append(batch._state.tokens.shape[0])
            assert batch._state.finished.numpy()[len(batch) :].all()

        new = batch.read([SHORT, LONG, SHORT], [0, 1, 2], [way] * 3, ["tone", None, "facts"])
        assert new.tokens.shape[0] == 3
        batch.regroup([], new, [0, 1, 2])
        take([0, 1, 2])
        new = batch.read([LONG, SHORT], [3, 4], [way] * 2, [None, "tone"])
        batch.regroup([0, 1, 2], new, [0, 1])
        take(range(5))
        batch.regroup([1, 3, 4])
        take([1, 3, 4])
        assert len(batch) == 3
    assert sizes == [4, 8, 4]
    [expected] = generate(model, [LONG], generation=way, first_number=1, adapters=[None])
    assert said[1] == list(expected.token_ids)[1:13]
    [expected] = generate(model, [SHORT], generation=way, first_number=4, adapters=["tone"])
    assert said[4] == list(expected.token_ids)[1:9]


def test_the_cache_is_no_longer_than_its_longest_row(model):
    batch = RunningBatch(model, TOKENIZER)
    new = batch.read([LONG, SHORT], [0, 1], [WAYS[0]] * 2, ["tone"] * 2)
    assert new.cache.mask.shape[1] % MULTIPLE == 0
    batch.regroup([], new, [0, 1])
    assert batch._state
    assert batch._state.cache.mask.shape[1] == len(LONG)
    batch.regroup([1])
    assert batch._state
    assert batch._state.cache.mask.shape[1] == len(SHORT)
    np.testing.assert_array_equal(batch._state.cache.mask, 1)
    assert batch._state.history.numpy().tolist() == [SHORT]
    batch.regroup([0], new, [0])
    assert batch._state
    empty = [NO_TOKEN] * (len(LONG) - len(SHORT))
    assert batch._state.history.numpy().tolist() == [empty + SHORT, LONG]


def test_scores_are_the_log_softmax_of_the_models(model):
    ids = np.random.default_rng(0).integers(50257, size=SLAB).tolist()
    scorer = Scorer(model, RunningBatch(model, TOKENIZER).head)
    logits = model(
        {
            "token_ids": np.array([ids]),
            "attention_mask": np.ones((1, len(ids)), int),
            "gate": model.rows_gate(["facts"]),
        }
    ).numpy()[0]
    expected = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    for first in (1, 7):
        found = scorer.score(ids, first, "facts", most=3)
        assert [one.token for one in found] == ids[first:]
        for place, one in enumerate(found, start=first - 1):
            assert one.log_probability == pytest.approx(expected[place, one.token], abs=1e-3)
            assert [token for token, _ in one.likeliest] == np.argsort(-expected[place])[
                :3
            ].tolist()
    assert scorer.score(ids, 1, None)[3].log_probability != found[0].log_probability


def test_a_vector_does_not_depend_on_the_rows_beside_it(model):
    embedder = Embedder(model)
    for pooling in ("last", "mean"):
        both = embedder.embed([LONG, SHORT], "tone", pooling)
        alone = embedder.embed([SHORT], "tone", pooling)
        np.testing.assert_allclose(both[1], alone[0], atol=1e-5)
