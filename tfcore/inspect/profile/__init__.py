"""A step compiled and timed: `compiler.inspect_step` takes it apart without running it (`step_report`),
`step_profile.profile_step` runs it under the profiler (`timing`, `xplane`) beside measured ceilings (`roofline`).

`programs` reads what others compiled (texts, dumps, profiles), `functions` makes functions of others ready.
`comparison` sets several forms of a step side by side, `differences` two programs in detail; `notebook` shows a step
in a notebook.
"""
