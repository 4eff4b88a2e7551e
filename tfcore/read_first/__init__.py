"""Two whole models to read first, `inn.py` and `vit.py`, each in one file of plain TensorFlow that imports no other.

What the rest of the house spreads over floors is on one page here: weights, forward pass, loss, one training step.
`tests/test_read_first.py` holds both to the numbers of `tfcore.models`: logits, loss, gradients, five training steps.
"""
