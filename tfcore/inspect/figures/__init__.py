"""Pictures by matplotlib (extra `plots`): `figures` (grids, curves, kernels), `attention_figures` (maps and rollout,
computed by `attention_maps`), `study_figures` (many runs).
"""
