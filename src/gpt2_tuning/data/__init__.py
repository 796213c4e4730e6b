"""From rows to batches: sources, tokens, examples, records."""
