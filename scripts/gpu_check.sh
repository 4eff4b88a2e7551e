#!/usr/bin/env bash
# One command for a machine with a GPU: proves that everything is right there, times every recipe, trains each to its end.
#
#   bash scripts/gpu_check.sh [--data DIR] [--out DIR] [--tiny] [--cpu] [--recipe NAME] [--minutes N] [STAGE ...]
#
# What it does stands in gpu_check.py, which --help describes. PYTHON names another interpreter than python3.
set -u
root=$(cd "$(dirname "$0")/.." && pwd) || exit 2
# The packages are found without an installation, too.
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
# Processes share the GPU, a benchmark's contenders for one; by default the first of them would take all its memory.
export TF_FORCE_GPU_ALLOW_GROWTH=true
# For a GPU newer than the wheel the driver compiles TensorFlow's own kernels: with room to keep them, once.
export CUDA_CACHE_MAXSIZE="${CUDA_CACHE_MAXSIZE:-4294967296}"
exec "${PYTHON:-python3}" "$root/scripts/gpu_check.py" "$@"
