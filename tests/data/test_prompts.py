"""Templates: the exact text of a prompt, whatever the fields hold, and rebuilt from metadata."""

import json

import pytest

from gpt2_tuning.data.prompts import TEMPLATES, Template, load_template, prompt_tokens
from gpt2_tuning.data.tokenizer import GPT2Tokenizer
from gpt2_tuning.errors import UserError

HARD = "{instruction} {context} {?context} {/context} {response} {} {{x}} %s \\1 ### Response:\nNo"


def test_dolly_prompt_with_and_without_context():
    dolly = TEMPLATES["dolly"]
    assert dolly.prompt("Name it.", "A cat.\nA dog.") == (
        "### Instruction:\nName it.\n\n### Context:\nA cat.\nA dog.\n\n### Response:\n"
    )
    assert dolly.prompt("Name it.") == "### Instruction:\nName it.\n\n### Response:\n"


def test_alpaca_prompt_is_one_of_stanfords_two_forms():
    alpaca = TEMPLATES["alpaca"]
    assert alpaca.prompt("Name it.", "A cat.") == (
        "Below is an instruction that describes a task, paired with an input that provides further"
        " context. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nName it.\n\n### Input:\nA cat.\n\n### Response:"
    )
    assert alpaca.prompt("Name it.") == (
        "Below is an instruction that describes a task. Write a response that appropriately"
        " completes the request.\n\n### Instruction:\nName it.\n\n### Response:"
    )


@pytest.mark.parametrize("blank", ["", " ", "\n\t "])
def test_blank_context_is_none_and_blank_space_around_fields_is_not_kept(blank):
    for template in TEMPLATES.values():
        assert template.prompt(" Do it.\n", blank) == template.prompt("Do it.")
        assert template.prompt("Do it.", "\n x y ") == template.prompt("Do it.", "x y")


def test_own_template_keeps_literal_braces_and_leaves_out_sections():
    own = Template(
        "own.txt",
        'Q{?context} on "{context}"{/context}: {instruction} {"a": [1]} {}\nA: {response}\n\n',
    )
    assert own.prompt("why", "cats") == 'Q on "cats": why {"a": [1]} {}\nA: '
    assert own.prompt("why") == 'Q: why {"a": [1]} {}\nA: '


def test_template_without_context_shows_none():
    own = Template("own.txt", "{instruction} -> {response}")
    assert own.prompt("why", "cats") == "why -> "
    assert (own.has_context, TEMPLATES["dolly"].has_context) == (False, True)


@pytest.mark.parametrize("name", TEMPLATES)
def test_fields_that_look_like_templates_stay_as_they_are(name):
    plain = TEMPLATES[name].prompt("INSTRUCTION", "CONTEXT")
    hard = TEMPLATES[name].prompt(HARD, HARD)
    assert hard == plain.replace("INSTRUCTION", HARD).replace("CONTEXT", HARD)


@pytest.mark.parametrize("name", TEMPLATES)
def test_template_comes_back_from_metadata_exactly(name):
    kept = json.loads(json.dumps(TEMPLATES[name].to_metadata()))
    again = Template.from_metadata(kept)
    assert again == TEMPLATES[name]
    assert again.prompt(HARD, HARD) == TEMPLATES[name].prompt(HARD, HARD)


@pytest.mark.parametrize("fields", [None, {}, {"name": "x"}, {"name": "x", "text": "y"}])
def test_metadata_without_a_template_is_a_user_error(fields):
    with pytest.raises(UserError):
        Template.from_metadata(fields)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "{response} must come once, at the end"),
        ("{instruction}", "{response} must come once, at the end"),
        ("{instruction} {response}.", "{response} must come once, at the end"),
        ("{response} {instruction}", "{response} must come once, at the end"),
        ("{instruction} {response} {response}", "{response} must come once, at the end"),
        ("{response}", "{instruction} must occur once"),
        ("{instruction} {instruction} {response}", "{instruction} must occur once"),
        ("{instruction} {context} {context} {response}", "{context} at most once"),
        ("{instruction} {input} {response}", "unknown field {input}"),
        ("{?context}{instruction}{/context}{response}", "{instruction} may not be in a section"),
        ("{instruction}{?context}{response}", "{?context} has no {/context}"),
        ("{instruction}{/context}{response}", "{/context} is out of place"),
        ("{?context}{?context}{/context}{/context}{instruction}{response}", "is out of place"),
        ("{?instruction}x{/instruction}{instruction}{response}", "only a context can be missing"),
    ],
)
def test_text_that_is_no_template_is_one_clear_line(text, message):
    with pytest.raises(UserError) as error:
        Template("mine.txt", text)
    assert message in str(error.value)
    assert "mine.txt" in str(error.value)
    assert "\n" not in str(error.value)


def test_template_is_loaded_by_name_or_from_a_file(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_bytes("\ufeffF: {instruction}\r\nA:{response}\r\n".encode())
    assert load_template("alpaca") == TEMPLATES["alpaca"]
    assert load_template(str(path)) == Template("mine.txt", "F: {instruction}\nA:{response}")
    with pytest.raises(UserError, match="no such template: dollly: give dolly, alpaca or a text"):
        load_template("dollly")
    path.write_bytes(b"\xff{instruction}{response}")
    with pytest.raises(UserError, match=r"mine\.txt is not UTF-8 text \(byte 1\)"):
        load_template(str(path))


@pytest.mark.parametrize(
    "template",
    [*TEMPLATES.values(), Template("own", "On {context}: {instruction}{response}")],
    ids=lambda template: template.name,
)
@pytest.mark.parametrize("context", ["", "a cat", "日本語 🎉 naïve", HARD, "word " * 50])
def test_tokens_of_a_prompt_are_those_of_its_text_with_the_context_apart(template, context):
    tokenizer = GPT2Tokenizer()
    prompt = template.render("Say it: 🎉", context)
    (pieces,) = prompt_tokens([prompt], tokenizer)
    assert [*pieces.head, *pieces.context, *pieces.tail] == tokenizer.encode(prompt.text)
    found = tokenizer.decode(pieces.context)
    if template.name == "own":  # its space before the context and the first word are one token
        assert context.strip().endswith(found.lstrip("\ufffd"))  # half a character may be left
        assert tokenizer.decode(pieces.head).startswith("On")
    else:
        assert found == context.strip()
