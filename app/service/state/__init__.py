"""What the service knows of the rig and what may be asked of it: health, metrics, operations."""
