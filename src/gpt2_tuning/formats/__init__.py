"""Weights from and to files of other libraries."""
