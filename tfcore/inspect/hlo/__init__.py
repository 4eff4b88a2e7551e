"""The text of XLA's compiled programs: `parser` reads modules, `shapes` shapes and windows, `cost` counts FLOPs and
bytes, `buffers` lays memory over the schedule, `dataflow` and `stages` compare what was written with what became of
it, `kernels` joins instructions that run as one, with layer, phase and source line.
"""
