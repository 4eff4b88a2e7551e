"""Many runs: `study` (rows, seeds, protocols), `baselines` (what a model must beat), `cnn_study` (system 5)."""
