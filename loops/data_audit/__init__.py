"""The audit of data: could one trivial feature solve this? `features` has the trivial ones, `rules` the best rule of
one and chance's share in it, `shortcuts` both for a whole set, `duplicates` finds examples that splits share,
`balance` looks at order, classes and drift, `leaks` takes a quantization leak out. Nothing here knows a model.
"""
