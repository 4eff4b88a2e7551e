"""What can be wrong with a run: `numerics` (non-finite steps stop it), `debugging` (repeat the step that did),
`diagnostics` (norms in the history), `compilation` (what XLA refuses), `explain` (which layer computes in which
dtype).
"""
