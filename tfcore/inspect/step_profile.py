"""The path of before the rooms, for scripts that know it: see `tfcore.inspect.profile.step_profile`."""

from tfcore.inspect.profile.step_profile import StepProfile, profile_graph, profile_step

__all__ = ["StepProfile", "profile_graph", "profile_step"]
