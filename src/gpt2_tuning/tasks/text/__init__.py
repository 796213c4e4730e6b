"""Plain text, every token of which is learnt."""
