"""What scripts/gpu-check is made of: see the top of that file."""
