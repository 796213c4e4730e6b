"""Instructions, with or without a context, and the responses to them."""
