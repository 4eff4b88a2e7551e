"""XLA's compiled programs: `parser` reads texts (`lines` cuts them out of what stands around them) and `proto` XLA's
own messages into a `module`; `shapes` are shapes and windows.

Counts: `cost` (by `opcodes`, `calls` of libraries, `collectives`, `traffic` in bytes), `trips` of loops, `runs` of all
that runs as a unit. Memory: `liveness` says what lives when, `buffers` the peak. Origins: `origins` is what all who can
tell have in common, `metadata_origins` reads what stands in the HLO (`op_names`), `attribution` gives it to kernels.
`kernels` joins all of it; `dataflow` tells who reads whom, `stages` what became of what was written.
"""
