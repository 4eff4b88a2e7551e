"""A step compiled and timed: `compiler.inspect_step` takes it apart without running it, `step_profile.profile_step`
runs it under the profiler (`timing`, `xplane`) beside measured ceilings (`roofline`), `comparison` sets several
forms side by side.
"""
