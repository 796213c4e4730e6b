"""A tuned model as a server: rows of many people in one running batch, spoken to in OpenAI's words.

What computes (`engine.py`) knows nothing of HTTP, and what speaks HTTP (`api.py`) computes nothing.
"""
