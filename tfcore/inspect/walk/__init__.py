"""One example through a model, forward and backward: every tensor, its gradient, and what it was computed from."""
