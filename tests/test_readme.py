"""What README, docs and CONTRIBUTING show works as written.

Python blocks run as they are. Commands of `sh` blocks are read by the very parser of their script,
and run in this process, one after another, with the changes that `substituted` makes; those of
NOT_RUN are only read. The messages that the page on trouble explains are those that scripts print.
"""

import importlib
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from gpt2_tuning import __main__ as command
from gpt2_tuning import cli, flags, paths
from gpt2_tuning.commands import adapters
from gpt2_tuning.families.gpt2 import GPT2Config
from gpt2_tuning.models.gpt2_model import GPT2Model

TOP = Path(__file__).parents[1]
PAGES = [TOP / "README.md", TOP / "CONTRIBUTING.md", TOP / "CHANGELOG.md"]
PAGES += sorted((TOP / "docs").glob("*.md"))
TEXTS = {page.relative_to(TOP).as_posix(): page.read_text(encoding="utf-8") for page in PAGES}

NOT_RUN = {
    "--strategy mirrored": "tests/training/test_strategy.py",
    "--gradient_accumulation": "tests/training/test_steps.py",
    "--strategy multi_worker": "tests/commands/test_launch.py",
    "gpt2_tuning.commands.launch": "tests/commands/test_launch.py",
    "gpt2_tuning.commands.serve": "tests/serving/test_server.py",
    "--rematerialize": "tests/models/test_gpt2_model.py",
    "gpt2_tuning.commands.chat": "tests/chat/test_page_in_browser.py",
}
"""Commands that this machine or this process cannot run, and what tests them."""
SHELL = {
    "make ": "checked to be a target",
    "source .venv/bin/activate": "the tests' environment is one like it",
    "cd src": "tests import the scripts",
    "export TF_CONFIG=": "for several machines",
    ".venv/bin/python -m pytest ": "checked to name a test file",
}
"""Commands that are not ours, or would run everything."""

TROUBLE = "docs/troubleshooting.md"
NOT_TRIGGERED = {
    "the loss or its gradient is not finite at epoch …": "tests/training/test_tuner.py",
    "the run was started with --epochs …": "tests/training/test_resume.py",
    "another process is training in …": "tests/training/test_run_directory.py",
    "out of memory in a batch of …": "tests/training/test_out_of_memory.py",
    "out of memory: give a smaller --batch_size": "tests/test_cli.py",
    "cannot import name 'TFGPT2LMHeadModel'": "needs another transformers",
}
"""Beginnings of messages of that page that no test here provokes."""


def blocks(text, language):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def commands(text):
    """The commands of a shell block, each as a list of words."""
    waiting = ""
    for line in text.replace("\\\n", " ").splitlines():
        waiting += line + "\n"
        try:
            words = shlex.split(waiting, comments=True)
        except ValueError:  # a quotation that goes on in the next line
            continue
        waiting = ""
        if words:
            yield words
    assert not waiting


def inline(page):
    """What stands in a page's sentences as code."""
    return re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", TEXTS[page], flags=re.DOTALL))


def as_script(words):
    """Our installed command as the script that it is the same as; another one as it stands."""
    words = (
        [words[0].removeprefix(".venv/bin/"), *words[1:]] if paths.PROGRAM in words[0] else words
    )
    if words[0] != paths.PROGRAM:
        return words
    if words[1] in command.COMMANDS:
        return ["python", "-m", f"gpt2_tuning.commands.{words[1]}", *words[2:]]
    return ["python", f"{words[2]}_tuning/{paths.SCRIPTS[words[1]]}", *words[3:]]


COMMANDS = [
    as_script(words)
    for text in TEXTS.values()
    for block in blocks(text, "sh")
    for words in commands(block)
]
SCRIPTS = [words for words in COMMANDS if words[0] == "python"]
LINES = {" ".join(words): words for words in SCRIPTS}
RUN = [words for line, words in LINES.items() if not any(part in line for part in NOT_RUN)]


def module_and_flags(words):
    """The script of a `python ...` command, and what is given to it."""
    if words[1] == "-m":
        return importlib.import_module(words[2]), words[3:]
    return importlib.import_module(words[1].removesuffix(".py").replace("/", ".")), words[2:]


def without(flags, *names):
    """The flags but for those named, which have a value each."""
    dropped = {i + shift for i, flag in enumerate(flags) for shift in (0, 1) if flag in names}
    return [flag for i, flag in enumerate(flags) if i not in dropped]


def substituted(script, flags, base):
    """The flags with which a command of the pages runs here: small, and without network."""
    kind = script.rpartition("/")[2]
    if kind == "prep_dataset.py":
        source = [] if {"--train_file", "--dataset"} & set(flags) else ["--dataset", "sample"]
        return [*flags, *source, "--limit", "24", "--seq_len", "96"]
    if kind == "train.py":
        flags = without(flags, "--model_size", "--pretrained", "--epochs")
        return [*flags, "--pretrained", str(base), "--epochs", "1"]
    language_model = script.startswith(("instruction", "text"))
    return [*flags, *(["--max_new_tokens", "4"] if language_model else [])]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A directory with the files that the pages take for given, and a model of one layer."""
    home = tmp_path_factory.mktemp("home")
    GPT2Model(GPT2Config(n_layer=1, n_embd=16, n_head=2)).built_now().save_pretrained(home / "base")
    rows = [{"text": f"word {i}", "label": ["even", "odd"][i % 2]} for i in range(40)]
    (home / "emotion").mkdir()
    for split in ("train", "validation"):
        lines = "".join(json.dumps(row) + "\n" for row in rows)
        (home / "emotion" / f"{split}.jsonl").write_text(lines)
    lines = "".join(f"{row['text']},{row['label']}\n" for row in rows)
    (home / "rows.csv").write_text("body,topic\n" + lines)
    (home / "cp1252.csv").write_bytes(b"text,label\ncaf\xe9,a\n")
    (home / "numbers.jsonl").write_text('{"text": 42, "label": "a"}\n')
    (home / "book.txt").write_text("The tide comes in and the tide goes out again. " * 200)
    return home


@pytest.fixture
def in_home(home, monkeypatch):
    """Works there, and has it stand in for the repository's top, where data and runs go."""
    monkeypatch.chdir(home)
    monkeypatch.setattr(paths, "repository_top", lambda: home)
    return home


@pytest.mark.slow
def test_commands_run_in_the_order_shown(in_home, capsys):
    done: set[str] = set()
    for words in RUN:
        module, flags = module_and_flags(words)
        flags = substituted(words[1], flags, in_home / "base")
        if (line := " ".join([words[1], *flags])) not in done:
            assert module.main(flags) == 0, f"{line}\n{capsys.readouterr().err}"
            if "prep_dataset" in words[1]:  # after other data the same command is another
                task = words[1].partition("/")[0]
                done = {other for other in done if not other.startswith(task)}
            done.add(line)


@pytest.mark.parametrize("words", LINES.values(), ids=LINES)
def test_the_flags_of_a_command_exist(words):
    module, flags = module_and_flags(words)
    if module is adapters:
        cli.parse_options(adapters.ACTIONS[flags[0]][0], flags[1:])
        return
    if "--" in flags:  # launch: what follows is a command of its own
        split = flags.index("--")
        launched = flags[split + 1 :]
        ours = launched[0] == paths.PROGRAM
        test_the_flags_of_a_command_exist(as_script(launched) if ours else ["python", *launched])
        flags = flags[:split]
    cli.parse_options(module.Options, flags)


@pytest.mark.parametrize("page", TEXTS)
def test_flags_named_in_the_text_exist(page):
    """A flag in inline code, such as `--seeds 3`, is one of some script."""
    scripts = [
        importlib.import_module(f"{folder.name}.{name}")
        for folder in sorted((TOP / "src").glob("*_tuning"))
        if folder.name != "gpt2_tuning"
        for name in ("prep_dataset", "train", "test")
    ]
    scripts += [
        importlib.import_module(f"gpt2_tuning.commands.{name}") for name in command.COMMANDS
    ]
    options = [script.Options for script in scripts if script is not adapters]
    options += [action for action, _ in adapters.ACTIONS.values()]
    fields = {name for each in options for name in each.__dataclass_fields__}
    known = {name.removesuffix("_") for name in fields}
    named = {flag for code in inline(page) for flag in re.findall(r"(?<!\S)--([a-z0-9_-]+)", code)}
    own = {flags.flag_name(flag) for flag in (*flags.HELP, command.VERSION, command.COMPLETION)}
    assert {n for n in named if not {n, flags.flag_name(n)} & (known | own)} == set()


def test_the_environment_is_active_before_the_readme_takes_its_python():
    lines = [line for block in blocks(TEXTS["README.md"], "sh") for line in block.splitlines()]
    plain = next(number for number, line in enumerate(lines) if line.startswith("python "))
    assert "source .venv/bin/activate" in lines[:plain]


def test_other_commands_are_known():
    targets = re.findall(r"^([a-z-]+):", (TOP / "Makefile").read_text(), flags=re.MULTILINE)
    others = [" ".join(words) + " " for words in COMMANDS if words[0] != "python"]
    for line in others:
        assert any(line.startswith(known) for known in SHELL), line
        if line.startswith("make "):
            assert line.split()[1] in targets
        if "pytest" in line:
            assert (TOP / line.split()[-1]).is_file()
    for text in TEXTS.values():
        for target in re.findall(r"`make ([a-z-]+)`", text):
            assert target in targets
    for known in SHELL:
        assert any(line.startswith(known) for line in others), f"no page has {known}"
    for part in NOT_RUN:
        assert any(part in line for line in LINES), f"no page has {part}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("page", "block"),
    [(page, block) for page, text in TEXTS.items() for block in blocks(text, "python")],
)
def test_python_runs_as_it_is(page, block, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(block, page, "exec"), {})


def test_the_readme_has_python():
    assert blocks(TEXTS["README.md"], "python")


@pytest.mark.parametrize("page", TEXTS)
def test_links_lead_somewhere(page):
    for target in re.findall(r"\]\(([^)#]+)[^)]*\)", TEXTS[page]):
        if not target.startswith("https://"):
            assert ((TOP / page).parent / target).exists(), target


@pytest.mark.parametrize("page", TEXTS)
def test_files_named_in_the_text_exist(page):
    """So do what stands in them: `LORA_TARGETS` in `config.py`."""
    roots = [TOP, TOP / "src", TOP / "src/gpt2_tuning", TOP / "src/classification_tuning"]

    def found(name):
        return [root / name for root in roots if (root / name).exists()]

    for code in inline(page):
        for name in re.findall(r"[\w./-]+\.(?:py|md)\b|[\w./-]+/(?=\s|$)", code):
            assert found(name), name
    for name, file in re.findall(r"`(\w+)`(?:, [^`]*)? in `([\w/]+\.py)`", TEXTS[page]):
        assert name in found(file)[0].read_text(encoding="utf-8"), f"{name} in {file}"


def messages():
    """The messages that the page on trouble explains."""
    section = TEXTS[TROUBLE]
    bullets = re.findall(r"^\* (.*?)(?=^\* |\n\n)", section, flags=re.MULTILINE | re.DOTALL)
    # What is code before the bullet's first colon outside code.
    heads = [re.match(r"(`[^`]*`|[^`:])*", bullet.replace("\n", " ")) for bullet in bullets]
    return [code for head in heads if head for code in re.findall(r"`([^`]*)`", head[0])]


def matches(message, line):
    """Whether a line is the message, whose `…` stand for anything."""
    pattern = ".*".join(map(re.escape, message.split("…")))
    return re.fullmatch(f"error: {pattern}", line)


WRONG = [
    "classification_tuning/train.py --model_size tiny",
    "classification_tuning/train.py",
    "classification_tuning/prep_dataset.py",
    "classification_tuning/prep_dataset.py --train_file rows.csv",
    "classification_tuning/prep_dataset.py --train_file cp1252.csv",
    "classification_tuning/prep_dataset.py --train_file numbers.jsonl",
    "classification_tuning/train.py --lr 1",
    "classification_tuning/train.py --dataset_dir nowhere",
    "classification_tuning/train.py --dataset_dir emotion",
    "classification_tuning/train.py --output_dir run",
    "classification_tuning/train.py --output_dir emotion --overwrite",
    "text_tuning/train.py --output_dir mixed --overwrite",
    "text_tuning/test.py --run_dir damaged --prompt a",
    "entailment_tuning/test.py --evaluate",
    "text_tuning/test.py --run_dir run --prompt '" + "word " * 1010 + "'",
]
"""Commands that a user gets wrong; the data of both tasks and text runs are there."""


@pytest.mark.slow
def test_messages_are_those_that_the_page_on_trouble_explains(in_home, capsys, monkeypatch):
    """Each wrong command is answered by one of its messages, and there is one for each."""
    monkeypatch.setattr(paths, "repository_top", lambda: in_home / "trouble")
    base = str(in_home / "base")
    for line in (
        "python classification_tuning/prep_dataset.py --dataset sample --limit 24",
        "python text_tuning/prep_dataset.py --train_file book.txt --seq_len 64",
        f"python text_tuning/train.py --pretrained {base} --epochs 1 --output_dir run",
    ):
        module, flags = module_and_flags(shlex.split(line))
        assert module.main(flags) == 0
    for name in ("mixed", "damaged"):
        shutil.copytree("run", name)
    Path("mixed/notes.txt").touch()
    with open("damaged/model/config.json", "a", encoding="utf-8") as file:
        file.write(" ")
    met = set()
    for line in WRONG:
        module, flags = module_and_flags(["python", *shlex.split(line)])
        capsys.readouterr()
        assert module.main(flags) == 2
        answer = capsys.readouterr().err.splitlines()[-1]
        found = [message for message in messages() if matches(message, answer)]
        assert found, f"{line[:80]}\n{answer}"
        met.update(found)
    for message in messages():
        listed = any(message.startswith(known) for known in NOT_TRIGGERED)
        assert (message in met) != listed, message
