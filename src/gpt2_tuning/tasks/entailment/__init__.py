"""Pairs of texts with a class each."""
