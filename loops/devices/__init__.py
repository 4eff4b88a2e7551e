"""Where a step runs: `distribution` (several devices), `feed` (what travels to them), `allocator` (memory that is
kept), `throughput` (steps a second).
"""
