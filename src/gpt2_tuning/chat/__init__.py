"""A page on which people try tuned models: nothing else needs it.

What is computed for it knows no Gradio, which the modules called `..._page.py` alone import.
"""
