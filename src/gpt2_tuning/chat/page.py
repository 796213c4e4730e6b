"""The page as a whole, and how it is served."""

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import gradio as gr

from gpt2_tuning.chat import looks
from gpt2_tuning.chat.labelling_page import make_labelling
from gpt2_tuning.chat.opened import OpenRun
from gpt2_tuning.chat.rows_page import make_rows
from gpt2_tuning.chat.writing_page import make_writing, settings_of

FONT = ("system-ui", "sans-serif")
MONOSPACE = ("ui-monospace", "monospace")
MOST_UPLOADED = "200mb"


def made(runs: Sequence[OpenRun], workplace: Path) -> gr.Blocks:
    """The page of some runs; `workplace` is a directory for files that it gives away."""
    title = ", ".join(run.name for run in runs)
    with gr.Blocks(title=f"{title}: gpt2-tuning", analytics_enabled=False) as page:
        if len(runs) == 1:
            make_run(runs[0], workplace)
        else:
            with gr.Tabs():
                for run in runs:
                    with gr.Tab(run.name):
                        make_run(run, workplace)
    return page


def make_run(run: OpenRun, workplace: Path) -> None:
    """The part of one run."""
    gr.HTML(looks.about(run))
    if run.labels:
        with gr.Tabs():
            with gr.Tab("Try it"):
                make_labelling(run)
            with gr.Tab("A file of rows"):
                make_rows(run, None, workplace)
        return
    with gr.Row():
        middle, beside = gr.Column(scale=3, min_width=320), gr.Column(scale=1, min_width=240)
    with beside:
        settings = settings_of(run)
    with middle, gr.Tabs():
        with gr.Tab("Try it"):
            make_writing(run, settings)
        with gr.Tab("A file of rows"):
            make_rows(run, settings, workplace)


def theme() -> gr.themes.Base:
    """Colours of both modes; fonts of the reader's own, so that none is fetched."""
    plain = gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", font=FONT, font_mono=MONOSPACE, radius_size="md"
    )
    return plain.set(
        body_background_fill="*neutral_50",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_dark="*primary_600",
        button_primary_background_fill_hover_dark="*primary_700",
        button_primary_text_color="white",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_text_weight="600",
    )


@contextlib.contextmanager
def served(runs: Sequence[OpenRun], host: str, port: int, share: bool) -> Iterator[tuple[str, str]]:
    """Inside the block the page is there.

    Yields:
        Its address, and its public one, which is empty where none was asked for or could be had.
    """
    with tempfile.TemporaryDirectory(prefix="gpt2-tuning-chat-") as workplace:
        page = made(runs, Path(workplace))
        try:
            _, local, public = page.launch(
                server_name=host,
                server_port=port,
                share=share,
                quiet=True,
                prevent_thread_lock=True,
                theme=theme(),
                css=looks.STYLE,
                footer_links=["settings"],
                max_file_size=MOST_UPLOADED,
                ssr_mode=False,
            )
            yield local, public or ""
        finally:
            page.close(verbose=False)
