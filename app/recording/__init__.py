"""Recording, its sidecar, recovery, and reading recordings back."""
