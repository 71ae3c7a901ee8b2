"""What the service does beside fusion: push, hooks, triggers, retention, care for what was cut off."""
