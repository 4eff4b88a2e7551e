"""TensorFlow's graph of a step: `origins` gives each operation its layer, phase and source line (`passes` and
`tracebacks` find them), `tracing` says why a function was traced and what XLA cannot compile, `dtypes` which layer
computes in which dtype, `calls` watches a model's modules while they run, `attention_weights` sees what their attention
layers look at, `involution_kernels` the kernels that their involutions write.
"""
