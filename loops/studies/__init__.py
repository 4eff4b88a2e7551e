"""Many runs: `study` (rows, seeds, protocols), `baselines` (nearest neighbour), `cnn_study` (system 5)."""
