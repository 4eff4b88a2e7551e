"""A run on disk: `runs` (the folder), `checkpoint`, `resume` (going on to the same bits), `restore` (a trained model),
`disk` (atomic writing), `signals` (stopping).
"""
