"""What a model is: operations, layers, models, optimizers. TensorFlow and NumPy alone; no files, no loops."""
