"""How a model learns: data, recipes, the compiled step, the training loop, run folders."""
