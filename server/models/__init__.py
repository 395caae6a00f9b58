"""What there is to serve: bundles on disk, their variants, and the registry of what is loaded."""
