"""The configuration file: its models, loading with named faults, editing in place."""
