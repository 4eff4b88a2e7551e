"""Numbers that go wrong: `nonfinite` finds the first operation of a step that makes a NaN or an infinity."""
